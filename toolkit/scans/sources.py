"""Which source files are what they were: by size and time, so that unchanged scans need not be read to know it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from toolkit.scans import itk
from toolkit.scans.dicom import files_in
from toolkit.scans.volumes import is_folder, split_path


class Sources:
    """What earlier builds read: a line a scan, in the private folder of the manifest.

    Several builds may add lines at once; a line that was cut off, or is missing, costs one reading of one scan.

    Args:
        path: The file; made when missing, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, str], tuple[str, tuple[str, str]]] = {}
        self._folders: dict[Path, str] = {}
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                scan, label_map, state, hashes = json.loads(line)
                self._known[scan, label_map] = state, (hashes[0], hashes[1])
            except (ValueError, TypeError, LookupError):
                continue

    def hashes(self, path: str, label_map: str, state: str) -> tuple[str, str] | None:
        """Content hashes of a scan and of its label map ("" without one); None where one is new or changed."""
        known, hashes = self._known.get((path, label_map), ("", None))
        return hashes if known and known == state else None

    def state(self, *paths: str) -> str:
        """A digest of name, size and time of the last change of all files that may belong to scans; "" without them.

        Each folder is looked at once in this object's life, however many series lie in it: what changes later has a
        state that is out of date, and is read again next time.

        Args:
            *paths: As in a manifest; of a DICOM series the whole folder counts. Empty ones count as nothing.
        """
        states = [self._state(path) for path in paths if path]
        return hashlib.sha256("".join(states).encode()).hexdigest() if all(states) else ""

    def _state(self, path: str) -> str:
        try:
            place, _ = split_path(path)
            if not is_folder(place):
                return _digest(itk.data_files(place) if place.suffix.lower() in itk.SUFFIXES else [place])
            if place not in self._folders:
                self._folders[place] = _digest(files_in(place))
            return self._folders[place]
        except (OSError, ValueError):  # ValueError: of a header that names other files, and is damaged
            return ""

    def remember(self, path: str, label_map: str, state: str, hashes: tuple[str, str]) -> None:
        """Keeps what was read, at once; `state` is that before it was read."""
        line = json.dumps([path, label_map, state, hashes]) + "\n"
        with contextlib.suppress(OSError):  # somebody else's folder, or a full disk: it is read again next time
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "replace"))
            finally:
                os.close(descriptor)


def _digest(files: Iterable[str | Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
