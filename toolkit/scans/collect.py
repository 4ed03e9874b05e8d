"""The scans that a run may see, preprocessed once into a store."""

import re
from pathlib import Path

import pandas as pd

from toolkit.config import digest
from toolkit.console import log, track
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.preprocessing import Preprocessing, preprocess
from toolkit.scans.store import StoredVolume, VolumeStore, store_key
from toolkit.scans.volumes import read_volume

NEEDED_COLUMNS = ("path", "subject", "content_hash")


def store_manifest(
    manifest: Path, spec: Preprocessing, folder: Path, *, channels: int | None = None
) -> tuple[list[StoredVolume], list[str]]:
    """Preprocesses every scan of a manifest into a store; what is stored already is not read again.

    Args:
        manifest: A CSV as `build_manifest` writes it.
        spec: Spacing, percentiles, foreground.
        folder: The store.
        channels: How many the encoder takes; by default as many as the first scan has.

    Returns:
        The stored scans in the manifest's order, and their subjects.

    Raises:
        DataError: No manifest, a missing column, a row without a content hash, a scan that changed, cannot be
            read or has another number of channels; the row is named.
    """
    try:
        rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{manifest}: cannot be read ({error}); `fewlabel init FOLDER` writes one") from None
    for column in NEEDED_COLUMNS:
        if column not in rows:
            raise DataError(f"{manifest}: no column {column!r}; {nearest(column, list(rows))}")
    if rows.empty:
        raise DataError(f"{manifest}: lists no scan")
    store = VolumeStore(folder)
    stored = []
    for number, row in enumerate(track(list(rows.itertuples()), "preprocessing scans"), start=1):
        try:
            stored.append(_stored(row.path, row.content_hash, spec, store, channels))
        except DataError as error:
            raise DataError(f"{manifest}: row {number}: {error}; mend it or take the row out") from None
        channels = len(stored[0].values)
    log.info("%d scans of %d subjects in %s", len(stored), rows["subject"].nunique(), folder)
    return stored, rows["subject"].tolist()


def _stored(path: str, recorded: str, spec: Preprocessing, store: VolumeStore, channels: int | None) -> StoredVolume:
    if not re.fullmatch("[0-9a-f]{64}", recorded):  # rows with the same wrong hash would share one scan
        raise DataError(f"content_hash is {recorded!r}, not 64 hex digits; `fewlabel init FOLDER` writes it")
    key = store_key(recorded, digest(spec))
    if key in store:
        scan = store.get(key)
        _check_channels(len(scan.values), channels)
        return scan
    volume = read_volume(path)
    if content_hash(scan_files(path)) != recorded:
        raise DataError(f"{path} changed since the manifest was written; write it anew with `fewlabel init FOLDER`")
    _check_channels(len(volume.array), channels)
    return store.put(key, preprocess(volume, spec))


def _check_channels(found: int, wanted: int | None) -> None:
    if wanted is not None and found != wanted:
        raise DataError(
            f"the scan has {found} channels where {wanted} are wanted; a 4-D file (a time series, diffusion, several "
            "echoes) counts as channels: keep one volume of it"
        )
