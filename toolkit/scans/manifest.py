"""The manifest's columns, and which files a row of it means. It holds paths, so its own folder is private."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans import itk
from toolkit.scans.volumes import files_of

COLUMNS = [
    "path", "subject", "study", "session", "sequence", "site", "scanner", "modality", "spacing_mm", "shape",
    "label", "content_hash", "fingerprint",
]  # fmt: skip


def scan_files(path: str) -> list[Path]:
    """The files of a manifest's `path`: those of a series, or a header and the data files that it names.

    Raises:
        DataError: See `files_of`; or a DICOM file is damaged, or a header names data outside its folder.
    """
    files = files_of(path)
    return itk.data_files(files[0]) if files[0].name.lower().endswith(itk.SUFFIXES) else files


def content_hash(files: list[Path]) -> str:
    """SHA-256 of a scan's bytes: over the digests of its files, whatever they are called and wherever they lie.

    A file that is there twice counts once, as it does in the volume.
    """
    digests = set()
    for path in files:
        with path.open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def read_manifest(path: Path, needed: Sequence[str] = ("path", "subject", "content_hash")) -> pd.DataFrame:
    """The rows of a manifest, all columns as text, with an empty column for each that is missing and not needed.

    Args:
        path: A CSV as `fewlabel data audit` writes it.
        needed: Columns without which nothing goes.

    Raises:
        DataError: It cannot be read, lacks a needed column, or lists no scan.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); `fewlabel data audit FOLDER` writes one, `data split` its parts"
        ) from None
    for column in needed:
        if column not in rows:
            raise DataError(f"{path}: no column {column!r}; {nearest(column, list(rows))}")
    if rows.empty:
        raise DataError(f"{path}: lists no scan")
    for column in COLUMNS:
        if column not in rows:
            rows[column] = ""
    return rows
