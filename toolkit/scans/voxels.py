"""Voxels as a reader gets them, part by part: whole numbers of 16 bits take half of the memory that float32 does."""

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from toolkit.scans.orientation import empty_for

_INT16 = np.iinfo(np.int16)


def fit_int16(values: np.ndarray) -> bool:
    """Whether all values (at least one) are whole numbers that int16 holds."""
    if np.can_cast(values.dtype, np.int16):
        return True
    if not (_INT16.min <= values.min() and values.max() <= _INT16.max):  # NaN is neither
        return False
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


class Voxels:
    """A scan that its reader fills; its memory is in order once `to_ras` has turned it.

    Args:
        shape: In the file, (I, J, K), then channels as they may be.
        affine: See `to_ras`, and `check_affine`.
        whole: Keep int16 until a value comes that it does not hold; else it is float32 from the start.

    Attributes:
        array: `shape`, float32 or int16, once something was put into it; what nothing was put into is not set.
    """

    array: np.ndarray

    def __init__(self, shape: Sequence[int], affine: np.ndarray, *, whole: bool = False) -> None:
        self._shape, self._affine, self._whole = tuple(shape), affine, whole
        self._is_empty = True

    def put(self, where: Any, values: np.ndarray) -> None:
        """Sets `array[where]`."""
        stays_whole = self._whole and fit_int16(values)
        if self._is_empty:
            self.array = empty_for(self._shape, self._affine, np.int16 if stays_whole else np.float32)
        elif self._whole and not stays_whole:
            wider = empty_for(self._shape, self._affine)
            wider[:] = self.array
            self.array = wider
        self._is_empty, self._whole = False, stays_whole
        self.array[where] = values


class FileVoxels(Voxels):
    """Voxels out of a file's bytes, the first axis fastest; never more of them as they are than a chunk and a plane.

    Args:
        shape: See `Voxels`.
        affine: See there.
        kind: Of the file's numbers.
        scale: Slope and intercept, applied as nibabel does it; None for the numbers as they are.
        skip: Bytes before the first voxel.
        whole: See `Voxels`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        affine: np.ndarray,
        kind: np.dtype,
        *,
        scale: tuple[np.float32, np.float32] | None = None,
        skip: int = 0,
        whole: bool = False,
    ) -> None:
        super().__init__(shape, affine, whole=whole)
        self._kind, self._scale, self._left_to_skip = kind, scale, skip
        self._bytes, self._num_planes = bytearray(), 0

    def add(self, chunk: bytes) -> None:
        """Takes the file's next bytes."""
        skipped, self._left_to_skip = self._left_to_skip, max(self._left_to_skip - len(chunk), 0)
        self._bytes += chunk[skipped:]
        i, j, k = self._shape[:3]
        plane_bytes = i * j * self._kind.itemsize
        while count := min(len(self._bytes) // plane_bytes, k - self._num_planes % k):
            volume, first = divmod(self._num_planes, k)
            which = np.unravel_index(volume, self._shape[3:], order="F") if len(self._shape) > 3 else ()
            raw = np.frombuffer(self._bytes[: count * plane_bytes], self._kind).reshape((i, j, count), order="F")
            if self._scale:
                raw = nib.volumeutils.apply_read_scaling(raw, *self._scale)
            self.put((slice(None), slice(None), slice(first, first + count), *which), raw)
            del self._bytes[: count * plane_bytes]
            self._num_planes += count
