"""From a file's axes to right, anterior and superior: voxels are permuted and flipped, never interpolated."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from toolkit.scans.reasons import Reason, ScanError

SPACING_LIMITS_MM = (1e-3, 200.0)
TILT_TOLERANCE = 0.01
"""How far a step along one axis may lead sideways, as a share of the step: half a degree."""


def check_affine(affine: np.ndarray, path: str | Path) -> None:
    """Refuses an affine (4, 4) whose axes are no numbers, of no length, in one plane, or not at right angles.

    Everything later takes a scan for a grid at right angles that is placed by spacings: read as one, a sheared scan
    would show every organ in another shape.
    """
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    low, high = SPACING_LIMITS_MM
    if not (
        np.isfinite(affine).all()
        and (spacing > low).all()
        and (spacing < high).all()
        and abs(np.linalg.det(affine[:3, :3] / spacing)) > 0.1
    ):
        raise ScanError(
            Reason.INCONSISTENT, path, "the header's affine does not place the voxels in space; repair the header"
        )
    directions = affine[:3, :3] / spacing
    cosine = np.abs(directions.T @ directions - np.eye(3)).max()
    if cosine > TILT_TOLERANCE:
        raise ScanError(
            Reason.SHEARED,
            path,
            f"axes are {np.degrees(np.arcsin(cosine)):.1f} degrees off a right angle (a tilted gantry, or a "
            "registration that was written into the header); resample it to right angles",
        )


def to_ras(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels with the axes that lie nearest to RAS, and their affine. A view; no voxel is copied.

    Args:
        data: (I, J, K) or (I, J, K, C), axes as in the file.
        affine: Of the file, to RAS world millimetres, (4, 4).
    """
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(data, orientation)
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape[:3])


def empty_for(shape: Sequence[int], affine: np.ndarray, kind: type[np.generic] = np.float32) -> np.ndarray:
    """An array to fill with axes as in a file, whose memory is in order once `to_ras` has turned it.

    A reader that fills it slice by slice needs no second array of the scan's size.

    Args:
        shape: In the file, (I, J, K), then channels as they may be.
        affine: See `to_ras`, and `check_affine`.
        kind: Of the numbers.

    Returns:
        `shape`, not set.
    """
    orientation = nib.orientations.io_orientation(affine)
    order = orientation[:, 0].astype(int)
    num_others = len(shape) - 3
    turned = np.empty([*shape[3:], *(shape[axis] for axis in np.argsort(order))], kind)
    in_file = turned.transpose([*(order + num_others), *range(num_others)])
    return in_file[tuple(slice(None, None, int(sign)) for sign in orientation[:, 1])]
