"""The compiled pass that looks a head up through a deformation, and smooth deformations themselves.

Index legend: c channel, i j k output voxel, x y z position in the source.
"""

# mypy: allow-untyped-defs

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

_SQUARINGS = 6
_SPACING_MM = 6.0
_LOW_MM, _HIGH_MM = np.array([-108.0, -144.0, -96.0]), np.array([108.0, 120.0, 132.0])
"""The box that a head lies in, about the origin of the MNI space."""


@dataclass(frozen=True)
class Deformation:
    """A smooth map of the head's space onto itself: x to x + d(x), millimetres.

    Attributes:
        displacement: d on a grid (3, A, B, C), float32.
        affine: Grid indices to millimetres (4, 4).
    """

    displacement: np.ndarray
    affine: np.ndarray

    def jacobian(self) -> np.ndarray:
        """Determinant of the map's derivative on the grid's inner points; where it is above 0 nothing folds."""
        gradient = np.stack(np.gradient(self.displacement.astype(np.float64), _SPACING_MM, axis=(1, 2, 3)), 1)
        matrix = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
        return np.linalg.det(matrix)[1:-1, 1:-1, 1:-1]


def random_velocity(random: np.random.Generator, scales: tuple[tuple[float, float], ...]) -> np.ndarray:
    """A smooth random vector field (3, A, B, C) on the head's grid.

    Args:
        random: Where the draws come from.
        scales: Pairs of width and strength in millimetres: a Gaussian's deviation, and the field's.
    """
    shape = tuple(np.rint((_HIGH_MM - _LOW_MM) / _SPACING_MM).astype(int) + 1)
    velocity = np.zeros((3, *shape))
    for width_mm, strength_mm in scales:
        noise = random.standard_normal((3, *shape))
        for axis in range(3):
            smooth = ndimage.gaussian_filter(noise[axis], width_mm / _SPACING_MM, mode="wrap")
            velocity[axis] += strength_mm * smooth / smooth.std()
    return velocity


def grid_points() -> np.ndarray:
    """Millimetre positions of the deformation grid (3, A, B, C)."""
    counts = np.rint((_HIGH_MM - _LOW_MM) / _SPACING_MM).astype(int) + 1
    axes = [low + _SPACING_MM * np.arange(count) for low, count in zip(_LOW_MM, counts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def exponential(velocity: np.ndarray) -> Deformation:
    """Follows a velocity field for one unit of time, by scaling and squaring (Arsigny et al. 2006).

    The exact flow of a smooth field folds nowhere; `jacobian` checks that of the sampled one.
    """
    affine = np.diag([_SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = _LOW_MM
    step = (velocity / 2**_SQUARINGS).astype(np.float32)
    for _ in range(_SQUARINGS):
        deformation = Deformation(step, affine)
        step = step + look_up(step, affine, deformation, affine, step.shape[1:], beyond_edge=True)
    return Deformation(step, affine)


def look_up(
    source: np.ndarray,
    source_affine: np.ndarray,
    deformation: Deformation,
    affine: np.ndarray,
    shape: tuple[int, ...],
    *,
    beyond_edge: bool = False,
) -> np.ndarray:
    """Trilinear values of `source` at deformed places: output voxel p shows what lies at x + d(x), x = `affine` p.

    Args:
        source: (C, X, Y, Z) float32.
        source_affine: Source voxels to deformed millimetres (4, 4).
        deformation: d; beyond its grid the value at its edge counts.
        affine: Output voxels to millimetres (4, 4).
        shape: Output voxels along each axis.
        beyond_edge: Beyond the source the value at its edge counts; otherwise 0.

    Returns:
        (C, I, J, K) float32.
    """
    out = np.empty((len(source), *shape), np.float32)
    to_grid = np.linalg.inv(deformation.affine) @ affine
    to_source = np.linalg.inv(source_affine)
    _look_up(source, deformation.displacement, to_grid[:3], affine[:3], to_source[:3], beyond_edge, out)
    return out


@numba.njit(cache=True, nogil=True)
def _look_up(source, displacement, to_grid, to_mm, to_source, beyond_edge, out):
    channels, num_i, num_j, num_k = out.shape
    moved = np.empty(3, np.float64)
    values = np.empty(channels, np.float32)
    for i in range(num_i):
        for j in range(num_j):
            for k in range(num_k):
                x = to_grid[0, 0] * i + to_grid[0, 1] * j + to_grid[0, 2] * k + to_grid[0, 3]
                y = to_grid[1, 0] * i + to_grid[1, 1] * j + to_grid[1, 2] * k + to_grid[1, 3]
                z = to_grid[2, 0] * i + to_grid[2, 1] * j + to_grid[2, 2] * k + to_grid[2, 3]
                _trilinear(displacement, x, y, z, True, moved)
                for axis in range(3):
                    moved[axis] += to_mm[axis, 0] * i + to_mm[axis, 1] * j + to_mm[axis, 2] * k + to_mm[axis, 3]
                x = (
                    to_source[0, 0] * moved[0]
                    + to_source[0, 1] * moved[1]
                    + to_source[0, 2] * moved[2]
                    + to_source[0, 3]
                )
                y = (
                    to_source[1, 0] * moved[0]
                    + to_source[1, 1] * moved[1]
                    + to_source[1, 2] * moved[2]
                    + to_source[1, 3]
                )
                z = (
                    to_source[2, 0] * moved[0]
                    + to_source[2, 1] * moved[1]
                    + to_source[2, 2] * moved[2]
                    + to_source[2, 3]
                )
                _trilinear(source, x, y, z, beyond_edge, values)
                for channel in range(channels):
                    out[channel, i, j, k] = values[channel]


@numba.njit(cache=True, nogil=True)
def _trilinear(source, x, y, z, beyond_edge, out):
    """Values of all channels at (x, y, z) into `out`."""
    channels, num_x, num_y, num_z = source.shape
    if beyond_edge:
        x, y, z = min(max(x, 0.0), num_x - 1.0), min(max(y, 0.0), num_y - 1.0), min(max(z, 0.0), num_z - 1.0)
    elif x < 0 or y < 0 or z < 0 or x > num_x - 1 or y > num_y - 1 or z > num_z - 1:
        out[:] = 0
        return
    x0, y0, z0 = min(int(x), num_x - 2), min(int(y), num_y - 2), min(int(z), num_z - 2)
    fx, fy, fz = x - x0, y - y0, z - z0
    for c in range(channels):
        low = (source[c, x0, y0, z0] * (1 - fz) + source[c, x0, y0, z0 + 1] * fz) * (1 - fy)
        low += (source[c, x0, y0 + 1, z0] * (1 - fz) + source[c, x0, y0 + 1, z0 + 1] * fz) * fy
        high = (source[c, x0 + 1, y0, z0] * (1 - fz) + source[c, x0 + 1, y0, z0 + 1] * fz) * (1 - fy)
        high += (source[c, x0 + 1, y0 + 1, z0] * (1 - fz) + source[c, x0 + 1, y0 + 1, z0 + 1] * fz) * fy
        out[c] = low * (1 - fx) + high * fx
