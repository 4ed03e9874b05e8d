"""Files and folders that only their owner can read."""

import os
from pathlib import Path

from toolkit.errors import DataError


def private_folder(path: Path) -> Path:
    """Makes `path`, resolved, with nobody else allowed in, and a `.gitignore` that keeps all of it out of commits.

    Raises:
        DataError: It lies in the folder of a run.
    """
    path = path.resolve()
    for above in (path, *path.parents):
        if (above / "provenance.json").exists():
            raise DataError(f"{path}: lies in the folder of a run, which is shown around; give a private --out")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    (path / ".gitignore").write_text("*\n", encoding="utf-8")
    return path


def write_private(path: Path, content: bytes) -> None:
    """Puts a file in place whole or not at all, readable by its owner alone (0600) from its first byte on."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
