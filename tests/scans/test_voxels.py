"""Voxels that come part by part: as small as they may be, in memory in the order in which they are used."""

import numpy as np
import pytest

from toolkit.scans.orientation import to_ras
from toolkit.scans.voxels import FileVoxels, Voxels, fit_int16

AFFINE = np.eye(4)
AFFINE[:3, :3] = [[0, -1, 0], [0, 0, 2], [-3, 0, 0]]


@pytest.mark.parametrize(
    ("values", "fit"),
    [
        ([-32768, 32767], True), ([32768], False), ([-32769], False), ([1.0, -2.0], True), ([1.5], False),
        ([np.nan, 1], False), ([np.inf], False), (np.array([40000], np.uint16), False),
        (np.array([4], np.uint16), True), (np.array([255], np.uint8), True), (np.array([True]), True),
        (np.array([1 << 40]), False),
    ],
)  # fmt: skip
def test_what_16_bits_hold(values: object, fit: bool) -> None:
    assert fit_int16(np.asarray(values)) == fit


@pytest.mark.parametrize("breaks_at", [None, 0, 4])
def test_whole_numbers_stay_int16_until_one_is_none(breaks_at: int | None) -> None:
    data = np.arange(2 * 3 * 5, dtype=np.float64).reshape(2, 3, 5)
    if breaks_at is not None:
        data[1, 2, breaks_at] += 0.25
    voxels = Voxels(data.shape, AFFINE, whole=True)
    for k in range(5):
        voxels.put((slice(None), slice(None), k), data[:, :, k])
    assert voxels.array.dtype == (np.int16 if breaks_at is None else np.float32)
    np.testing.assert_array_equal(voxels.array, data)
    assert to_ras(voxels.array, AFFINE)[0].flags.c_contiguous


@pytest.mark.parametrize("size", [1, 7, 24, 1000])
@pytest.mark.parametrize("kind", ["<i2", ">f4"])
def test_bytes_become_voxels_however_they_are_cut(size: int, kind: str) -> None:
    data = np.random.default_rng([0]).integers(-99, 99, (4, 3, 5, 2)).astype(kind)
    content = b"header" + data.tobytes(order="F")
    voxels = FileVoxels(data.shape, AFFINE, np.dtype(kind), scale=(np.float32(0.5), np.float32(3)), skip=6)
    for start in range(0, len(content), size):
        voxels.add(content[start : start + size])
    np.testing.assert_array_equal(voxels.array, data.astype(np.float32) / 2 + 3)
