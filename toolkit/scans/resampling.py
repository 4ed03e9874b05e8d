"""From one grid of voxels to another, through both affines, a slab at a time so that memory stays small."""

import ctypes
import mmap
import sys
from itertools import product

import numpy as np
from scipy import ndimage

from toolkit.scans.volumes import Volume

_SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))
_TRUNCATE = 4.0  # deviations that a Gaussian reaches
_SLAB = 16  # planes along I that are made at a time
_EDGE = 1e-6  # voxels by which rounding may put a centre outside a face that it lies on


def grid_for(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """An empty grid of the wanted spacing over the extent of `volume`, along its own axes."""
    spacing = np.asarray(volume.spacing_mm)
    shape = np.maximum(1, np.ceil(np.asarray(volume.shape) * spacing / spacing_mm - 1e-3)).astype(int)
    zoom = np.asarray(spacing_mm) / spacing
    affine = volume.affine @ np.diag([*zoom, 1.0])
    affine[:3, 3] = (volume.affine @ [*((zoom - 1) / 2), 1.0])[:3]  # the outer faces of the first voxels coincide
    return Volume(np.broadcast_to(np.float32(0), (1, *shape)), affine)


def resample(
    volume: Volume, like: Volume, *, labels: bool = False, outside: float = 0.0, overwrite: bool = False
) -> Volume:
    """Interpolates `volume` onto the grid of `like`.

    Args:
        volume: The scan or label map.
        like: Its shape and affine are the output's.
        labels: Nearest neighbour without smoothing, for label maps, which keep their type; otherwise linear
            interpolation, after a Gaussian along the axes that become coarser.
        outside: What lies around the scan, beyond the outer faces of its voxels. The half voxel between such a face
            and the outermost centres has the edge's value.
        overwrite: The source is needed no more: where both grids are one its array is the result's, and else its
            memory is given back as it is used up.
    """
    # To coarser voxels, smooth first or fine detail folds into noise.
    ratio = np.asarray(like.spacing_mm) / volume.spacing_mm
    sigma = _SIGMA_PER_FWHM * np.sqrt(np.maximum(ratio**2 - 1, 0))
    if labels or sigma.max() <= 0.1:
        sigma = np.zeros(3)
    kind = volume.array.dtype if labels else np.float32
    to_source = np.linalg.inv(volume.affine) @ like.affine
    if like.shape == volume.shape and np.allclose(to_source, np.eye(4), rtol=0, atol=1e-6):
        return Volume(volume.array.astype(kind, copy=not overwrite), like.affine)
    linear, start = to_source[:3, :3], to_source[:3, 3]
    out = np.empty((len(volume.array), *like.shape), kind)
    firsts = range(0, like.shape[0], _SLAB)
    sizes = [(min(_SLAB, like.shape[0] - first), *like.shape[1:]) for first in firsts]
    origins = [start + linear[:, 0] * first for first in firsts]
    boxes = [_needed(linear, *where, volume.shape, sigma) for where in zip(origins, sizes, strict=True)]
    for number, (first, size, origin, (box, low)) in enumerate(zip(firsts, sizes, origins, boxes, strict=True)):
        for source, target in zip(volume.array, out, strict=True):
            part = source[box]
            if not part.size:
                target[first : first + size[0]] = outside
                continue
            if sigma.any():
                part = ndimage.gaussian_filter(part, sigma, output=kind, mode="nearest", truncate=_TRUNCATE)
            ndimage.affine_transform(
                part,
                linear,
                origin - low,
                size,
                target[first : first + size[0]],
                order=0 if labels else 1,
                mode="nearest",
                prefilter=False,
            )
        out[:, first : first + size[0]][:, _beyond(linear, origin, size, volume.shape)] = outside
        if overwrite:
            later = [along[0] for along, _ in boxes[number + 1 :]]
            for source in volume.array:
                _give_back(source[: min((planes.start for planes in later), default=None)])
                _give_back(source[max((planes.stop for planes in later), default=0) :])
    return Volume(out, like.affine)


def _give_back(planes: np.ndarray) -> None:
    """Lets the system have the memory of planes that nobody reads again; they may read as zeros from here on."""
    if sys.platform != "linux" or not (planes.flags.c_contiguous and planes.flags.writeable):
        return
    first = -(-planes.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only: others live in the rest
    last = (planes.ctypes.data + planes.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        advice = ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED
        ctypes.CDLL(None).madvise(*advice)


def _beyond(linear: np.ndarray, origin: np.ndarray, size: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Which voxels of a slab have their centre beyond the source's outer faces, (i, j, k) bool."""
    beyond = np.zeros(size, bool)
    for row, start, count in zip(linear, origin, shape, strict=True):
        i, j, k = (
            (factor * np.arange(n if factor else 1)).reshape(place)
            for factor, n, place in zip(row, size, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
        )  # an axis that does not matter stays 1 wide: cheap where both grids run alike
        where = i + j + k + start
        beyond |= (where < -0.5 - _EDGE) | (where > count - 0.5 + _EDGE)
    return beyond


def _needed(
    linear: np.ndarray, origin: np.ndarray, size: tuple[int, ...], shape: tuple[int, ...], sigma: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box of source voxels that a slab depends on, and its first voxel."""
    corners = np.array([linear @ corner + origin for corner in product(*((0, n - 1) for n in size))])
    halo = np.floor(_TRUNCATE * sigma + 0.5) + 2
    low = np.clip(np.floor(corners.min(axis=0) - halo), 0, shape).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + halo) + 1, low, shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), low
