"""The store: 16 bits are enough, a reader sees all or nothing, a full disk is said in one line."""

import errno
from pathlib import Path

import numpy as np
import pytest

from toolkit.errors import DataError, DiskError
from toolkit.scans import Volume, VolumeStore, store_key


def test_values_come_back_to_16_bits(tmp_path: Path, textured: np.ndarray) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    store = VolumeStore(tmp_path / "store")
    key = store_key("0" * 64, "a" * 16)
    assert key not in store
    stored = store.put(key, Volume(textured * 5 - 1, affine))
    assert key in store
    assert stored.values.dtype == np.int16
    assert isinstance(store.get(key).values, np.memmap)
    np.testing.assert_allclose(store.get(key).load().array, textured * 5 - 1, atol=5 / 32767)
    np.testing.assert_array_equal(store.get(key).affine, affine)


def test_foreground_is_what_is_above_0(tmp_path: Path, textured: np.ndarray) -> None:
    array = np.where(textured > 0.5, textured, 0)
    stored = VolumeStore(tmp_path).put("k", Volume(array, np.eye(4)))
    np.testing.assert_array_equal(stored.foreground(), array[0] > 0)


def test_another_scan_or_another_preprocessing_has_another_key() -> None:
    assert len({store_key(c * 64, s * 16) for c in "ab" for s in "cd"}) == 4


def test_a_store_cut_off_while_writing_holds_nothing(
    tmp_path: Path, textured: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = VolumeStore(tmp_path)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DiskError, match="the disk is full"):
        store.put("k", Volume(textured, np.eye(4)))
    assert "k" not in store
    with pytest.raises(DataError, match="no stored scan k"):
        store.get("k")


def test_a_damaged_file_is_refused(tmp_path: Path, textured: np.ndarray) -> None:
    store = VolumeStore(tmp_path)
    store.put("k", Volume(textured, np.eye(4)))
    path = tmp_path / "k.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"k\.npy: damaged"):
        store.get("k")
