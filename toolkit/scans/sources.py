"""Which source files are what they were: by size and time, so that unchanged scans need not be read to know it."""

import hashlib
import json
import os
from pathlib import Path

from toolkit.scans import itk
from toolkit.scans.dicom import ANY_DEPTH
from toolkit.scans.volumes import split_path


class Sources:
    """What earlier builds read: a line a scan, in the private folder of the manifest.

    Several builds may add lines at once; a line that was cut off, or is missing, costs one reading of one scan.

    Args:
        path: The file; made when missing, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, str], tuple[str, tuple[str, str]]] = {}
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                scan, label_map, state, hashes = json.loads(line)
                self._known[scan, label_map] = state, (hashes[0], hashes[1])
            except (ValueError, TypeError, LookupError):
                continue

    def hashes(self, path: str, label_map: str) -> tuple[str, str] | None:
        """Content hashes of a scan and of its label map ("" without one); None where one is new or changed."""
        state, hashes = self._known.get((path, label_map), ("", None))
        return hashes if state and state == state_of(path, label_map) else None

    def remember(self, path: str, label_map: str, state: str, hashes: tuple[str, str]) -> None:
        """Keeps what was read, at once; `state` is that before it was read."""
        line = json.dumps([path, label_map, state, hashes]) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode("utf-8", "replace"))
        finally:
            os.close(descriptor)


def state_of(*paths: str) -> str:
    """A digest of name, size and time of the last change of all files that may belong to scans; "" for a missing one.

    Args:
        *paths: As in a manifest; of a DICOM series the whole folder counts. Empty ones count as nothing.
    """
    digest = hashlib.sha256()
    try:
        for path in filter(None, paths):
            for file in _files(split_path(path)[0]):
                status = os.stat(file)
                digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    except (OSError, ValueError):  # ValueError: of a header that names other files, and is damaged
        return ""
    return digest.hexdigest()


def _files(place: Path) -> list[str]:
    if place.name == ANY_DEPTH:
        return sorted(os.path.join(here, name) for here, _, names in os.walk(place.parent) for name in names)
    if place.is_dir():
        return sorted(entry.path for entry in os.scandir(place))
    return [os.fspath(file) for file in (itk.data_files(place) if place.suffix.lower() in itk.SUFFIXES else [place])]
