"""Preprocessed volumes on disk: int16 memory maps, found again by what went in and how it was prepared."""

import errno
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import DataError, DiskError
from toolkit.scans.volumes import Volume

INT16_MAX = 32767


@dataclass(frozen=True)
class StoredVolume:
    """A preprocessed scan on disk.

    Attributes:
        values: (C, I, J, K) int16 memory map; intensity = value * scale + offset.
        scale: See `values`.
        offset: See `values`.
        affine: Voxel indices to world millimetres, (4, 4).
    """

    values: np.ndarray
    scale: float
    offset: float
    affine: np.ndarray

    def load(self) -> Volume:
        """The whole scan as float32."""
        return Volume(self.values * np.float32(self.scale) + np.float32(self.offset), self.affine)

    def foreground(self) -> np.ndarray:
        """Voxels above 0 in any channel, (I, J, K) bool."""
        return (self.values > round(-self.offset / self.scale)).any(axis=0)


class VolumeStore:
    """A folder of preprocessed scans. The key is the scan's content hash and the preprocessing's digest.

    Every reader maps the same file, so ranks, workers and trials share one copy in memory.

    Args:
        folder: Where the volumes lie; made when missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, key: str) -> bool:
        return self._json(key).is_file()  # written last, so its presence means that all is there

    def put(self, key: str, volume: Volume) -> StoredVolume:
        """Stores `volume` in 16 bits under `key`; a reader sees all of it or nothing.

        Raises:
            DiskError: No room, or the folder cannot be written.
        """
        low, high = float(volume.array.min()), float(volume.array.max())
        scale = (high - low) / INT16_MAX or 1.0
        values = np.rint((volume.array - low) / scale).astype(np.int16)
        header = {
            "scale": scale,
            "offset": low,
            "affine": volume.affine.tolist(),
            "shape": list(values.shape),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self._npy(key).with_suffix(".partial")
            with temporary.open("wb") as file:
                np.save(file, values)
            temporary.replace(self._npy(key))
            temporary = self._json(key).with_suffix(".partial")
            temporary.write_text(json.dumps(header), encoding="utf-8")
            temporary.replace(self._json(key))
        except OSError as error:
            # NumPy's own error for a write that was cut short has no number.
            reason = "the disk is full" if error.errno in (errno.ENOSPC, None) else error.strerror
            raise DiskError(
                f"{self.folder}: cannot store a scan ({reason}); free some space or choose another folder"
            ) from error
        return self.get(key)

    def get(self, key: str) -> StoredVolume:
        """Opens what was stored under `key`.

        Raises:
            DataError: Nothing is stored there, or the file is damaged.
        """
        try:
            header = json.loads(self._json(key).read_text(encoding="utf-8"))
            values = np.load(self._npy(key), mmap_mode="r")
            assert list(values.shape) == header["shape"]
        except FileNotFoundError as error:
            raise DataError(f"{self.folder}: no stored scan {key}; preprocess it first") from error
        except (OSError, ValueError, EOFError, KeyError, AssertionError) as error:
            raise DataError(f"{self._npy(key)}: damaged ({error}); delete it and run again") from error
        return StoredVolume(values, header["scale"], header["offset"], np.asarray(header["affine"]))

    def _npy(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _json(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def store_key(content_hash: str, spec_digest: str) -> str:
    """Name of a stored scan: what it was made of and how."""
    return f"{content_hash[:16]}-{spec_digest}"
