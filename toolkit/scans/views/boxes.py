"""Which voxels of a scan a view reads, and the elastic deformation's spline."""

import functools

import numpy as np

from toolkit.scans.views.parameters import ViewParameters

_SLACK = 1e-3  # voxels; more than the rounding of float32 coordinates


def source_box(parameters: ViewParameters, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The voxels that views read: a crop of this box gives the same bits as the whole scan.

    Args:
        parameters: Of V views.
        patch_size: Voxels along each side.

    Returns:
        First voxel and the one after the last, (V, 3) int64 each, relative to the whole voxel below the centre.
    """
    middle = (patch_size - 1) / 2
    linear, translation = parameters.matrices[:, :, :3].astype(np.float64), parameters.matrices[:, :, 3]
    centre = linear.sum(axis=2) * middle + translation
    reach = np.abs(linear).sum(axis=2) * middle
    low, high = centre - reach, centre + reach
    if parameters.displacements.size:  # a B-spline stays between its coefficients
        low = low + parameters.displacements.min(axis=(2, 3, 4))
        high = high + parameters.displacements.max(axis=(2, 3, 4))
    # Interpolation reads the next voxel too, and a centre may lie up to a voxel above its whole one.
    return np.floor(low - _SLACK).astype(np.int64), np.floor(high + _SLACK).astype(np.int64) + 3


@functools.cache
def spline_weights(num_voxels: int, num_coefficients: int) -> tuple[np.ndarray, np.ndarray]:
    """The four coefficients that a cubic B-spline takes at each voxel of a line, and their weights.

    Args:
        num_voxels: P; the first and the last lie on the ends of the spline.
        num_coefficients: G, three more than the spline has cells.

    Returns:
        Index of the first of the four (P,) int64, weights (P, 4) float32.
    """
    cells = num_coefficients - 3
    place = np.arange(num_voxels) * (cells / (num_voxels - 1))
    cell = np.minimum(place.astype(np.int64), cells - 1)
    t = place - cell
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return cell, (np.stack(weights, axis=1) / 6).astype(np.float32)
