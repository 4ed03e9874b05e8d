"""Tables that somebody names: one that is not there is named, with the nearest name in its folder."""

import contextlib
import difflib
import os
from pathlib import Path

from toolkit.errors import DataError

_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def existing(path: Path) -> Path:
    """`path`, if there is such a file.

    Raises:
        DataError: There is none.
    """
    if os.path.exists(path):
        return path
    names: list[str] = []
    with contextlib.suppress(OSError):  # its folder is missing too, or not to be listed
        names = sorted(name for name in os.listdir(path.parent) if name.lower().endswith(_SUFFIXES))
    near = difflib.get_close_matches(path.name, names, n=1)
    raise DataError(f"no such file: {path}; " + (f"did you mean {near[0]!r}?" if near else "is its folder right?"))
