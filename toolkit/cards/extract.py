"""Named members out of an archive, a nested archive or a folder; nothing else is ever written."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from toolkit.cards.source import NESTED, Member, leaves_folder
from toolkit.errors import FetchError

Entry = tuple[str, bool, Callable[[], IO[bytes] | None]]
"""Path inside the archive, whether it is a plain file, and how to open it."""


def extract(archive: Path, members: tuple[Member, ...], destination: Path) -> None:
    """Copies `members` of `archive` into `destination`.

    Only members that the card names are touched. One that would leave the folder, or is a link, is refused.

    Args:
        archive: A zip (wheel) or tar file, or a folder.
        members: What to take; `!/` in a path enters an archive within the archive.
        destination: An existing folder.

    Raises:
        FetchError: Not an archive, cut off, a member missing from it, or a member refused.
    """
    plain = [member for member in members if NESTED not in member.path]
    nested: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        outer, separator, inner = member.path.partition(NESTED)
        if separator:
            nested[outer].append(member.model_copy(update={"path": inner, "name": member.target}))
    missing = {member.path for member in plain} | set(nested)
    try:
        for path, is_file, open_entry in _entries(archive):
            if path in nested and is_file:
                missing.discard(path)
                with TemporaryDirectory(dir=destination, prefix=".") as scratch:
                    inside = Path(scratch) / PurePosixPath(path).name
                    _copy(open_entry, inside)
                    extract(inside, tuple(nested[path]), destination)
            for member in plain:
                target = member.place(path)
                if target is None:
                    continue
                if not is_file or leaves_folder(path) or leaves_folder(target):
                    raise FetchError(f"{archive.name}: {path!r} is a link or leaves its folder; the archive is refused")
                missing.discard(member.path)
                _copy(open_entry, destination / target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise FetchError(f"{archive.name}: damaged or cut off: {' '.join(str(error).split())}") from None
    except RuntimeError as error:  # zipfile's for a password, and for a compression that it lacks
        raise FetchError(f"{archive.name}: cannot be unpacked: {error}") from None
    except FileExistsError as error:
        raise FetchError(f"{archive.name}: two members are named {Path(error.filename).name!r}") from None
    if missing:
        raise FetchError(f"{archive.name}: no member {min(missing)!r}; check `members` of the card")


def _copy(open_entry: Callable[[], IO[bytes] | None], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = open_entry()
    assert stream is not None  # None stands for folders and links, which were refused
    with stream, target.open("xb") as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)


def _entries(archive: Path) -> Iterator[Entry]:
    """The plain files and the links of `archive`, in its own order."""
    if archive.is_dir():
        yield from _folder_entries(archive)
    elif zipfile.is_zipfile(archive):
        yield from _zip_entries(archive)
    elif tarfile.is_tarfile(archive):
        yield from _tar_entries(archive)
    else:
        raise FetchError(f"{archive.name}: not a zip or tar archive, or cut off")


def _folder_entries(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix(), path.is_file(), partial(FileIO, path)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                yield _tidy(info.filename), not is_link, partial(opened.open, info)


def _tar_entries(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as opened:
        for info in opened:
            if not info.isdir():
                yield _tidy(info.name), info.isreg(), partial(opened.extractfile, info)


def _tidy(path: str) -> str:
    """Without the leading `./` that tar likes."""
    return PurePosixPath(path).as_posix() if path.startswith("./") else path
