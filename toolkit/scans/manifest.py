"""The manifest: the scans in a folder, under pseudonyms. It holds paths, so its own folder is private."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from toolkit.console import log, track
from toolkit.errors import DataError
from toolkit.scans import itk
from toolkit.scans.dicom import find_series, read_header
from toolkit.scans.volumes import is_volume_file, read_volume, split_path

COLUMNS = [
    "path", "subject", "study", "session", "sequence", "site", "scanner", "modality", "spacing_mm", "shape",
    "label", "content_hash",
]  # fmt: skip
NOT_IN_MR = -200  # no MR or PET image goes so low; in CT air is -1000
_KEY_BYTES = 32
_BIDS = re.compile(r"(?:^|[_/])(sub|ses)-([A-Za-z0-9]+)")


@dataclass(frozen=True)
class _Found:
    """A scan before it is read; empty where nothing is known."""

    path: str
    person: str
    files: list[Path]
    study: str = ""
    session: str = ""
    sequence: str = ""
    site: str = ""
    scanner: str = ""
    modality: str = ""


def build_manifest(folder: str | Path, out_dir: str | Path) -> pd.DataFrame:
    """Finds the scans below `folder` and lists them.

    Writes into `out_dir`, readable by the owner only: `manifest.csv`; `refusals.csv`, scans that cannot be
    read, and why; `crosswalk.csv`, which person is which pseudonym; `key`, with which pseudonyms are made.
    The same key gives the same pseudonyms again; without it nobody can recompute them. A `.gitignore` keeps all
    of it out of commits.

    Args:
        folder: Where to look, at any depth: NIfTI, NRRD, DICOM. A person is DICOM's PatientID, BIDS' `sub-`,
            else the first folder below `folder`, else the file's name.
        out_dir: Made if missing; outside of `folder` or beside the scans.

    Returns:
        The manifest, one row a readable scan, sorted by path. `label` is empty: fill it in where you know it.
        `modality` is what DICOM says; `CT?` is a guess from intensities far below 0.

    Raises:
        DataError: `folder` is missing or holds no readable scan; `key` is damaged.
    """
    folder, out_dir = Path(folder), Path(out_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds the scans")
    out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    out_dir.chmod(0o700)
    (out_dir / ".gitignore").write_text("*\n", encoding="utf-8")
    key = _key(out_dir / "key")
    rows, refusals, people = [], [], {}
    for found in track(list(_find(folder, out_dir, refusals)), "Reading scans"):
        try:
            volume = read_volume(found.path)
        except DataError as error:
            refusals.append({"path": found.path, "reason": str(error)})
            continue
        people[found.person] = subject = pseudonym(found.person, key, "sub")
        known = {name: value for name, value in asdict(found).items() if name in COLUMNS}
        rows.append(
            known
            | {
                "subject": subject,
                "study": pseudonym(found.study, key, "study") if found.study else "",
                "spacing_mm": "x".join(f"{value:.4g}" for value in volume.spacing_mm),
                "shape": "x".join(str(value) for value in volume.shape),
                "modality": found.modality or ("CT?" if volume.array.min() < NOT_IN_MR else ""),
                "label": "",
                "content_hash": content_hash(found.files),
            }
        )
    if refusals:
        log.warning("%d scans cannot be read; %s says why", len(refusals), out_dir / "refusals.csv")
    pd.DataFrame(refusals, columns=["path", "reason"]).to_csv(out_dir / "refusals.csv", index=False)
    if not rows:
        raise DataError(f"{folder}: no readable scan (NIfTI, NRRD or DICOM) in it; {out_dir / 'refusals.csv'} says why")
    crosswalk = pd.DataFrame(sorted(people.items()), columns=["person", "subject"])
    crosswalk.to_csv(out_dir / "crosswalk.csv", index=False)
    manifest = pd.DataFrame(rows, columns=COLUMNS)
    manifest.to_csv(out_dir / "manifest.csv", index=False)
    return manifest


def pseudonym(identity: str, key: bytes, prefix: str) -> str:
    """A stable name that says nothing about `identity` without the key (HMAC-SHA256, 12 hex digits)."""
    return f"{prefix}-{hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()[:12]}"


def scan_files(path: str) -> list[Path]:
    """The files of a manifest's `path`: those of a series, or a header and the data files that it names.

    Raises:
        DataError: A DICOM file is damaged, or a header names data outside its folder.
    """
    place, series_uid = split_path(path)
    if not place.is_dir():
        return itk.data_files(place) if place.suffix.lower() in itk.SUFFIXES else [place]
    return [file for files in find_series(place, series_uid).values() for file in files]


def content_hash(files: list[Path]) -> str:
    """SHA-256 of a scan's bytes: over the digests of its files, whatever they are called and wherever they lie.

    A file that is there twice counts once, as it does in the volume.
    """
    digests = set()
    for path in files:
        with path.open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _find(folder: Path, out_dir: Path, refusals: list[dict[str, str]]) -> Iterator[_Found]:
    """The scans below `folder`; what cannot even be looked at joins `refusals`."""
    for here in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        if here == out_dir or out_dir in here.parents:
            continue
        files = sorted(path for path in here.iterdir() if path.is_file())
        for path in files:
            if is_volume_file(path):
                yield _found_file(path, folder)
        if all(is_volume_file(path) for path in files):
            continue
        try:
            series = find_series(here)
        except DataError as error:
            refusals.append({"path": str(here), "reason": str(error)})
            continue
        for uid, files in series.items():
            yield _found_series(str(here) if len(series) == 1 else f"{here}#{uid}", files, folder)


def _found_file(path: Path, folder: Path) -> _Found:
    inside = path.relative_to(folder)
    stem = re.sub(r"\.(nii|nrrd|nhdr|mha|mhd)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    bids = dict(_BIDS.findall(inside.as_posix()))
    person = bids.get("sub") or (inside.parts[0] if len(inside.parts) > 1 else stem)
    sequence = stem.rsplit("_", 1)[-1] if "sub" in bids else ""
    return _Found(str(path), person, [path], session=bids.get("ses", ""), sequence=sequence)


def _found_series(path: str, files: list[Path], folder: Path) -> _Found:
    header = read_header(files[0])
    assert header is not None
    inside = Path(path.partition("#")[0]).relative_to(folder)
    return _Found(
        path,
        header.person or (inside.parts[0] if inside.parts else folder.name),
        files,
        study=header.study_uid,
        session=header.time[:8],
        sequence=header.description,
        site=header.institution,
        scanner=" ".join(filter(None, [header.manufacturer, header.model])),
        modality=header.modality,
    )


def _key(path: Path) -> bytes:
    if not path.exists():
        temporary = path.with_suffix(".partial")
        temporary.touch(mode=0o600)
        temporary.write_bytes(secrets.token_bytes(_KEY_BYTES))
        temporary.replace(path)
    key = path.read_bytes()
    if len(key) < _KEY_BYTES:  # pseudonyms under a short key can be turned back into names
        raise DataError(
            f"{path}: {len(key)} bytes where a key has {_KEY_BYTES}; put its copy back, or delete it for new pseudonyms"
        )
    return key
