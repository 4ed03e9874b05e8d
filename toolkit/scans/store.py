"""Preprocessed volumes on disk, found again by what went in and how it was prepared, read crop by crop."""

import contextlib
import errno
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from toolkit.config import Section
from toolkit.errors import DataError, DiskError
from toolkit.files import write_atomically
from toolkit.scans.chunks import ChunkedArray, FrameRecord, compress
from toolkit.scans.volumes import Volume
from toolkit.scans.voxels import fit_int16

STORE_VERSION = 3
"""Part of each key (1 were memory maps). Raise it whenever one scan and spec give other voxels or another format."""
LEVELS = 4095
"""12 bits: finer than the noise of any scanner, and what lies below it would not compress."""

DAY_S = 86_400


class StoreHeader(Section):
    """What a store knows of a scan besides its voxels: no path, no identifier."""

    shape: tuple[int, int, int, int]
    """(C, I, J, K)."""
    scale: float
    """Intensity = raw value * scale + offset."""
    offset: float
    affine: tuple[tuple[float, float, float, float], ...]
    """Voxel indices to world millimetres, (4, 4)."""
    values: FrameRecord
    labels: FrameRecord | None = None
    """Of the label map, on the same grid."""


class StoredVolume:
    """A preprocessed scan on disk, by its path: nothing is read before it is needed, and a pickle holds only the path.

    Safe after a fork; processes share the pages of its one read-only file.

    Args:
        path: Of the header, as `VolumeStore.get` gives it.

    Raises:
        DataError: Later, when a part that is needed is missing or damaged; it is named.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __reduce__(self) -> tuple[type["StoredVolume"], tuple[str]]:
        return StoredVolume, (str(self.path),)

    @property
    def num_channels(self) -> int:
        """C."""
        return self._header.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along I, J and K."""
        return self._header.shape[1:]

    @property
    def scale(self) -> float:
        """Intensity = raw value * scale + offset."""
        return self._header.scale

    @property
    def offset(self) -> float:
        """See `scale`."""
        return self._header.offset

    @property
    def zero(self) -> int:
        """The raw value of intensity 0."""
        return round(-self.offset / self.scale)

    @property
    def affine(self) -> np.ndarray:
        """Voxel indices to world millimetres, (4, 4)."""
        return np.array(self._header.affine)

    @property
    def has_labels(self) -> bool:
        """Whether a label map came with the scan."""
        return self._header.labels is not None

    @property
    def num_bytes(self) -> int:
        """On the disk, without the header."""
        return sum(record.num_bytes for _, record in self.files())

    def files(self) -> list[tuple[Path, FrameRecord]]:
        """The scan's file and, where there is one, the label map's, with what each should be."""
        labels = [(self.path.with_suffix(".labels.b2nd"), self._header.labels)] if self._header.labels else []
        return [(self.path.with_suffix(".b2nd"), self._header.values), *labels]

    def crop(self, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """Raw values of a box, decompressed from the chunks that it touches.

        Args:
            start: Its first voxel along I, J and K; may lie outside.
            size: Voxels along I, J and K.

        Returns:
            (C, i, j, k) int16, writable; `zero` outside the volume.
        """
        return _boxed(self._values, start, size, self.zero)

    def labels(self, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """The label map in a box, (i, j, k) int16, 0 outside the volume; see `crop`."""
        assert self._labels is not None, "this scan has no label map"
        return _boxed(self._labels, start, size, 0)[0]

    def load(self) -> Volume:
        """The whole scan as float32."""
        raw = self.crop((0, 0, 0), self.shape)
        return Volume(raw * np.float32(self.scale) + np.float32(self.offset), self.affine)

    def foreground(self) -> np.ndarray:
        """Voxels above 0 in any channel, (I, J, K) bool."""
        return (self.crop((0, 0, 0), self.shape) > self.zero).any(axis=0)

    @cached_property
    def _header(self) -> StoreHeader:
        return read_header(self.path)

    @cached_property
    def _values(self) -> ChunkedArray:
        path, record = self.files()[0]
        return ChunkedArray(path, self._header.shape, record)

    @cached_property
    def _labels(self) -> ChunkedArray | None:
        if not self.has_labels:
            return None
        path, record = self.files()[1]
        return ChunkedArray(path, (1, *self.shape), record)


class VolumeStore:
    """A folder of preprocessed scans. The key is the scan's content hash, the preprocessing's digest and a version.

    A scan is `KEY.b2nd`, with a label map `KEY.labels.b2nd`, and last `KEY.json`: its presence means that all is there.

    Args:
        folder: Where the volumes lie; made when missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, key: str) -> bool:
        """See `find`."""
        return self.find(key) is not None

    def find(self, key: str) -> StoredVolume | None:
        """What is stored under `key`, if all of its files are there and as long as they should be; else None."""
        try:
            stored = self.get(key)
            for path, record in stored.files():
                if path.stat().st_size != record.num_bytes:
                    return None
        except (DataError, OSError):
            return None
        return stored

    def put(self, key: str, volume: Volume, labels: np.ndarray | None = None) -> StoredVolume:
        """Stores `volume` in 12 bits under `key`; a reader sees all of it or nothing.

        Args:
            key: From `store_key`.
            volume: The preprocessed scan. 0 is kept exactly.
            labels: Label map (I, J, K) of whole numbers that fit into 16 bits.

        Raises:
            DataError: A label that does not fit.
            DiskError: No room, or the folder cannot be written.
        """
        return self._put(key, *packed(volume), labels)

    def _put(self, key: str, frame: bytes, header: StoreHeader, labels: np.ndarray | None) -> StoredVolume:
        parts = {".b2nd": frame}
        if labels is not None:
            assert labels.shape == header.shape[1:]
            parts[".labels.b2nd"], record = compress(as_int16(labels)[None])
            header = header.model_copy(update={"labels": record})
        text = header.model_dump_json()
        parts[".json"] = json.dumps({"crc": zlib.crc32(text.encode()), "header": text}).encode()
        with self._disk_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            for suffix, content in parts.items():
                write_atomically(self._path(key, suffix), content)
        return self.get(key)

    def get(self, key: str) -> StoredVolume:
        """Opens what was stored under `key`.

        Raises:
            DataError: Nothing is stored there, or the header is damaged.
        """
        stored = StoredVolume(self._path(key))
        stored.shape  # noqa: B018 - reads the header
        return stored

    def get_or_make(
        self, key: str, make: Callable[[], Volume], label_map: Callable[[Volume], np.ndarray] | None = None
    ) -> StoredVolume:
        """What is stored under `key`, or else the scan that `make` gives.

        Of several processes that want the same scan one makes it, and the others wait.

        Args:
            key: From `store_key`.
            make: Gives the scan. Who keeps none of it needs no room for it while the label map is made.
            label_map: Gives the label map (I, J, K) from the scan's grid, a volume of zeros.
        """
        if found := self.find(key):
            return found
        locks = self.folder / ".locks"
        with self._disk_errors():
            locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / key[:3]):  # few files for any number of scans
            if found := self.find(key):  # another process was quicker
                return found
            frame, header = packed(make())
            grid = Volume(np.broadcast_to(np.float32(0), header.shape), np.array(header.affine))
            return self._put(key, frame, header, label_map(grid) if label_map else None)

    def sweep(self) -> None:
        """Deletes what builders left that were killed more than a day ago."""
        for path in self.folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > DAY_S:
                    path.unlink()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise DiskError(
                f"{self.folder}: cannot store a scan ({reason}); free some space or choose another folder"
            ) from error

    def _path(self, key: str, suffix: str = ".json") -> Path:
        return self.folder / f"{key}{suffix}"


def store_key(content_hash: str, spec_digest: str) -> str:
    """Name of a stored scan: what it was made of and how."""
    return f"{content_hash[:16]}-{spec_digest}-{STORE_VERSION}"


def read_header(path: Path) -> StoreHeader:
    """The header of a stored scan.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if zlib.crc32(saved["header"].encode()) != saved["crc"]:
            raise ValueError("checksum")
        return StoreHeader.model_validate_json(saved["header"])
    except FileNotFoundError as error:
        raise DataError(f"{path.parent}: no stored scan {path.stem}; build it first") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged; delete it and build the store again") from error


def packed(volume: Volume) -> tuple[bytes, StoreHeader]:
    """The file of a scan in 12 bits, and its header. Let go of early: the caller should not keep the scan either."""
    low, high = min(float(volume.array.min()), 0.0), max(float(volume.array.max()), 0.0)
    scale = 1 / LEVELS if low == 0 and high <= 1 else (high - low) / LEVELS or 1.0
    zero = round(-low / scale)  # the raw value of 0 is a whole number, so that background stays background
    values = _quantised(volume.array, scale, zero)
    shape, affine = volume.array.shape, tuple(tuple(row) for row in volume.affine.tolist())
    del volume
    frame, record = compress(values)
    return frame, StoreHeader(shape=shape, scale=scale, offset=-zero * scale, affine=affine, values=record)


def _quantised(array: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """Raw values, int16; plane by plane, so that no second float array is made."""
    values = np.empty(array.shape, np.int16)
    for channel, raw in zip(array, values, strict=True):
        for plane, raw_plane in zip(channel, raw, strict=True):
            raw_plane[:] = np.rint(plane / np.float32(scale)) + np.float32(zero)
    return values


def as_int16(labels: np.ndarray) -> np.ndarray:
    """A label map as int16.

    Raises:
        DataError: A label is no whole number or does not fit.
    """
    if not all(map(fit_int16, labels.reshape(-1, *labels.shape[-2:]))):
        low, high = labels.min(), labels.max()
        raise DataError(f"a label map has values from {low:g} to {high:g}; it takes whole numbers of 16 bits")
    return labels.astype(np.int16, copy=False)


def _boxed(array: ChunkedArray, start: Sequence[int], size: Sequence[int], outside: int) -> np.ndarray:
    """A box of `array`, with the value `outside` where it reaches over the border."""
    shape = array.shape[1:]
    low = [min(max(a, 0), n) for a, n in zip(start, shape, strict=True)]
    high = [max(min(a + s, n), b) for a, s, n, b in zip(start, size, shape, low, strict=True)]
    if all(b - a == s for a, b, s in zip(low, high, size, strict=True)):
        return array.read(low, high)
    box = np.full((array.shape[0], *size), outside, np.int16)
    if all(b > a for a, b in zip(low, high, strict=True)):
        i, j, k = (slice(a - o, b - o) for a, b, o in zip(low, high, start, strict=True))
        box[:, i, j, k] = array.read(low, high)
    return box
