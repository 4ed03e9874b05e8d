"""Files and folders that only their owner can read."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import DataError, DiskError
from toolkit.files import write_atomically

_IGNORES_ALL = "*\n"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, or a place where `path` cannot be, becomes a `DiskError`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiskError(f"{path}: cannot be written ({reason}); give another --out, or free some space") from None


def private_folder(path: Path) -> Path:
    """Makes `path`, resolved, with nobody else allowed in, and a `.gitignore` that keeps all of it out of commits.

    Raises:
        DataError: It lies in the folder of a run, is a file, or holds what is not ours.
        DiskError: It cannot be made or written.
    """
    with writing(path):
        path = path.resolve()
        refuse_run_folder(path)
        if path.exists() and not path.is_dir():
            raise DataError(f"{path}: is no folder; give a private one as --out")
        if path.exists() and any(path.iterdir()) and not _is_ours(path):
            raise DataError(f"{path}: holds files that are not an audit's; give a new or empty folder as --out")
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        write_private(path / ".gitignore", _IGNORES_ALL.encode())  # a full disk must not leave half of what is ours
    return path


def refuse_run_folder(path: Path) -> None:
    """Stops before anything private is written at or below a run's folder.

    Raises:
        DataError: `path` lies in one.
    """
    path = path.resolve()
    for above in (path, *path.parents):
        if (above / "provenance.json").exists():
            raise DataError(f"{path}: lies in the folder of a run, which is shown around; give a private --out")


def _is_ours(folder: Path) -> bool:
    """Whether a private folder was made here before: by its `.gitignore`; if that is gone, by a manifest."""
    try:
        return (folder / ".gitignore").read_text(encoding="utf-8", errors="replace") == _IGNORES_ALL
    except FileNotFoundError:
        manifest = folder / "manifest.csv"
        return manifest.is_file() and manifest.read_bytes()[:1024].startswith(b"path,subject,study")


def write_private(path: Path, content: bytes) -> None:
    """Puts a file in place whole or not at all, readable by its owner alone (0600) from its first byte on.

    Raises:
        DiskError: The disk is full, or the folder is missing or cannot be written.
    """
    with writing(path):
        write_atomically(path, content, mode=0o600)
