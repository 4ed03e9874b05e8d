"""Files and folders that are put in place whole or not at all."""

import os
import shutil
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Writes `content` so that `path` holds either all of it or what it held before, whatever happens.

    Args:
        path: The file.
        content: All of it.
        mode: Who may read and write it, from its first byte on, less what the umask takes away.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(temporary: Path, target: Path) -> None:
    """Puts the finished folder `temporary` in the place of `target`."""
    if target.exists():
        shutil.rmtree(target)
    temporary.replace(target)
