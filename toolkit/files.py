"""Files and folders that are put in place whole or not at all."""

import os
import shutil
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` so that `path` holds either all of it or what it held before, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
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
