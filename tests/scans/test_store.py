"""The store: crops are what NumPy cuts, 12 bits are enough, a reader sees all of a scan or none, damage is named."""

import errno
import multiprocessing
import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import pytest

from toolkit.errors import DataError, DiskError
from toolkit.scans import StoredVolume, Volume, VolumeStore, store_key
from toolkit.scans import store as store_module
from toolkit.scans.chunks import CHUNK
from toolkit.scans.store import LEVELS

AFFINE = np.array([[0.0, -2, 0.1, 5], [2, 0, 0, -7], [0, 0.1, 3, 11], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> tuple[Volume, np.ndarray]:
    """Two channels of more than one chunk along each axis, partly empty, and a label map."""
    array = np.random.default_rng([1]).random((2, 70, 90, CHUNK + 1), np.float32)
    array[:, :, :20] = 0
    array[1, :CHUNK] = 0
    return Volume(array, AFFINE), np.random.default_rng([2]).integers(-3, 30_000, array.shape[1:])


def test_values_come_back_to_12_bits(tmp_path: Path, textured: np.ndarray) -> None:
    store, key = VolumeStore(tmp_path / "store"), store_key("0" * 64, "a" * 16)
    assert key not in store
    stored = store.put(key, Volume(textured * 5 - 1, AFFINE))
    assert key in store
    np.testing.assert_allclose(stored.load().array, textured * 5 - 1, atol=0.51 * 5 / LEVELS)
    np.testing.assert_array_equal(store.get(key).affine, AFFINE)
    assert (stored.num_channels, stored.shape, stored.has_labels) == (1, textured.shape[1:], False)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1.3, 4), (-1000, -900), (5, 6), (0, 0)])
def test_background_stays_exactly_0(tmp_path: Path, textured: np.ndarray, low: float, high: float) -> None:
    array = low + textured * (high - low)
    array[:, 10:20] = 0
    stored = VolumeStore(tmp_path).put("k", Volume(array.astype(np.float32), np.eye(4)))
    assert (stored.load().array[:, 10:20] == 0).all()
    assert (stored.crop((10, 0, 0), (10, 44, 48)) == stored.zero).all()
    np.testing.assert_allclose(stored.load().array, array, atol=0.51 * np.ptp(array) / LEVELS + 1e-4)


def test_a_crop_is_what_numpy_cuts_everywhere(tmp_path: Path, scan: tuple[Volume, np.ndarray]) -> None:
    stored = VolumeStore(tmp_path).put("k", *scan)
    padded = np.pad(stored.load().array, [(0, 0), *[(100, 100)] * 3])
    labels = np.pad(scan[1], 100)
    rng = np.random.default_rng([3])
    boxes = [(rng.integers(-100, side, 3), rng.integers(0, 101, 3)) for side in (70, 90, CHUNK) * 40]
    boxes += [((0, 0, 0), (70, 90, CHUNK + 1)), ((-5, -5, -5), (80, 100, 75)), ((69, 89, CHUNK), (1, 1, 1))]
    boxes += [((500, 0, 0), (3, 3, 3)), ((0, 0, 0), (0, 2, 2))]
    for start, size in boxes:
        i, j, k = (slice(min(a, 100) + 100, min(a, 100) + 100 + s) for a, s in zip(start, size, strict=True))
        crop = stored.crop(start, size)
        assert crop.dtype == np.int16 and crop.flags.writeable
        np.testing.assert_array_equal(crop * np.float32(stored.scale) + np.float32(stored.offset), padded[:, i, j, k])
        np.testing.assert_array_equal(stored.labels(start, size), labels[i, j, k])


def test_foreground_is_what_is_above_0(tmp_path: Path, textured: np.ndarray) -> None:
    array = np.where(textured > 0.5, textured, 0)
    stored = VolumeStore(tmp_path).put("k", Volume(array, np.eye(4)))
    np.testing.assert_array_equal(stored.foreground(), array[0] > 0)


def test_another_scan_spec_or_format_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {store_key(c * 64, s * 16) for c in "ab" for s in "cd"}
    monkeypatch.setattr(store_module, "STORE_VERSION", 0)
    assert len(keys | {store_key("a" * 64, "c" * 16)}) == 5


def test_labels_are_whole_and_fit(tmp_path: Path, textured: np.ndarray) -> None:
    for wrong in (0.5, 40_000, np.nan):
        with pytest.raises(DataError, match="whole numbers of 16 bits"):
            VolumeStore(tmp_path).put("k", Volume(textured, np.eye(4)), np.full(textured.shape[1:], wrong))


# Another process


def _forked(work: Callable[[], None]) -> multiprocessing.Process:
    """Starts another process without its seconds of imports."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _sum_in_process(stored: StoredVolume, connection: object) -> None:
    connection.send(int(stored.crop((0, 0, 0), stored.shape).sum()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_reads_the_same(tmp_path: Path, scan: tuple[Volume, np.ndarray], method: str) -> None:
    stored = VolumeStore(tmp_path).put("k", *scan)
    expected = int(stored.crop((0, 0, 0), stored.shape).sum())  # open already when the process is forked
    assert len(pickle.dumps(stored)) < 500
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=_sum_in_process, args=(stored, there))
    process.start()
    there.close()
    assert here.recv() == expected
    process.join()


def test_more_scans_than_a_process_may_open_files(tmp_path: Path, textured: np.ndarray) -> None:
    store = VolumeStore(tmp_path)
    stored = [store.put(f"k{number}", Volume(textured[:, :8, :8, :8], np.eye(4))) for number in range(300)]

    def read_all() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (290, 290))
        for volume in stored * 2:
            volume.crop((0, 0, 0), (2, 2, 2))

    reader = _forked(read_all)
    reader.join()
    assert reader.exitcode == 0


# Whole or absent


def test_a_full_disk_leaves_nothing(tmp_path: Path, textured: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = VolumeStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="the disk is full"):
        store.put("k", Volume(textured, np.eye(4)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no stored scan k"):
        store.get("k")


def test_killed_at_any_point_a_scan_is_whole_or_absent(tmp_path: Path, textured: np.ndarray) -> None:
    def make() -> Volume:
        return Volume(textured, np.eye(4))

    def label_map(grid: Volume) -> np.ndarray:
        return np.ones(grid.shape)

    def build_and_die() -> None:
        left, replace = [None] * moment, Path.replace

        def replace_or_die(path: Path, target: Path) -> Path:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left.pop()
            return replace(path, target)

        Path.replace = replace_or_die  # type: ignore[method-assign, assignment]
        store.get_or_make("k", make, label_map)

    for moment in range(3):
        store = VolumeStore(tmp_path / str(moment))
        killed = _forked(build_and_die)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        assert "k" not in store
        stored = store.get_or_make("k", make, label_map)
        np.testing.assert_allclose(stored.load().array, textured, atol=1 / LEVELS)
        assert (stored.labels((0, 0, 0), stored.shape) == 1).all()


def test_what_a_killed_builder_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".k.b2nd.1.tmp", tmp_path / ".k.b2nd.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half a scan")
    os.utime(old, (0, time.time() - 90_000))
    VolumeStore(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_two_builders_at_once_make_each_scan_once(tmp_path: Path, textured: np.ndarray) -> None:
    store, start = VolumeStore(tmp_path / "store"), multiprocessing.get_context("fork").Barrier(2)

    def make() -> Volume:
        with (tmp_path / "made").open("a") as file:
            file.write("x")
        time.sleep(0.02)
        return Volume(textured, np.eye(4))

    def build() -> None:
        start.wait()
        for number in range(12):
            stored = store.get_or_make(f"k{number}", make)
            np.testing.assert_allclose(stored.load().array, textured, atol=1 / LEVELS)

    builders = [_forked(build), _forked(build)]
    for builder in builders:
        builder.join()
        assert builder.exitcode == 0
    assert (tmp_path / "made").read_text() == "x" * 12
    assert len(list((tmp_path / "store").glob("*.json"))) == 12


# Damage


def test_a_damaged_chunk_is_named_and_not_returned(tmp_path: Path, scan: tuple[Volume, np.ndarray]) -> None:
    stored = VolumeStore(tmp_path).put("k", *scan)
    path = tmp_path / "k.b2nd"
    content = bytearray(path.read_bytes())
    frame = blosc2.open(str(path), mode="r")
    place = content.find(frame.schunk.get_chunk(1))  # the second chunk along K of the first channel
    content[place + 3000] ^= 1
    path.write_bytes(content)
    again = StoredVolume(tmp_path / "k.json")
    np.testing.assert_array_equal(again.crop((0, 0, 0), (9, 9, CHUNK)), stored.crop((0, 0, 0), (9, 9, CHUNK)))
    for _ in range(2):
        with pytest.raises(DataError, match=r"k\.b2nd: chunk \(0, 0, 0, 1\) is damaged; delete the file"):
            again.crop((0, 0, CHUNK), (1, 1, 1))


def test_any_flipped_or_missing_byte_is_found(tmp_path: Path, scan: tuple[Volume, np.ndarray]) -> None:
    store = VolumeStore(tmp_path)
    store.put("k", *scan)
    rng = np.random.default_rng([6])
    for path in (tmp_path / "k.b2nd", tmp_path / "k.labels.b2nd", tmp_path / "k.json"):
        good = path.read_bytes()
        ends = [*range(0, 250, 10), *range(len(good) - 250, len(good), 10)] if path.suffix == ".b2nd" else []
        for place in [*ends, *rng.integers(0, len(good), 30)]:
            flipped = bytearray(good)
            flipped[place] ^= 1 << int(rng.integers(8))
            for content in (bytes(flipped), good[:place], good + b"0"):
                path.write_bytes(content)
                with pytest.raises(DataError, match="damaged"):
                    _read_all(store.get("k"))
        path.write_bytes(good)
        assert "k" in store
        path.write_bytes(good[:-1])
        assert "k" not in store
        path.write_bytes(good)
    np.testing.assert_allclose(store.get("k").load().array, scan[0].array, atol=1 / LEVELS)


def _read_all(stored: StoredVolume) -> None:
    stored.load()
    stored.labels((0, 0, 0), stored.shape)


def test_a_missing_file_is_named(tmp_path: Path, scan: tuple[Volume, np.ndarray]) -> None:
    stored = VolumeStore(tmp_path).put("k", *scan)
    (tmp_path / "k.labels.b2nd").unlink()
    with pytest.raises(DataError, match=r"k\.labels\.b2nd: missing; build the store again"):
        stored.labels((0, 0, 0), (1, 1, 1))


def test_a_damaged_scan_is_made_again(tmp_path: Path, textured: np.ndarray) -> None:
    store, make = VolumeStore(tmp_path), _Maker(textured)
    store.get_or_make("k", make)
    (tmp_path / "k.b2nd").write_bytes(b"")
    np.testing.assert_allclose(store.get_or_make("k", make).load().array, textured, atol=1 / LEVELS)
    store.get_or_make("k", make)
    assert make.calls == 2


class _Maker:
    def __init__(self, array: np.ndarray) -> None:
        self.array, self.calls = array, 0

    def __call__(self) -> Volume:
        self.calls += 1
        return Volume(self.array, np.eye(4))
