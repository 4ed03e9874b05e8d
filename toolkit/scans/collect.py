"""The scans that a run may see, preprocessed once into a store."""

from pathlib import Path

import pandas as pd

from toolkit.config import digest
from toolkit.console import log, track
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans.preprocessing import Preprocessing, preprocess
from toolkit.scans.store import StoredVolume, VolumeStore, store_key
from toolkit.scans.volumes import read_volume

NEEDED_COLUMNS = ("path", "subject", "content_hash")


def store_manifest(manifest: Path, spec: Preprocessing, folder: Path) -> tuple[list[StoredVolume], list[str]]:
    """Preprocesses every scan of a manifest into a store; what is stored already is not read again.

    Args:
        manifest: A CSV as `build_manifest` writes it.
        spec: Spacing, percentiles, foreground.
        folder: The store.

    Returns:
        The stored scans in the manifest's order, and their subjects.

    Raises:
        DataError: No manifest, a missing column, a scan that changed or cannot be read; the row is named.
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
        key = store_key(row.content_hash, digest(spec))
        if key not in store:
            try:
                store.put(key, preprocess(read_volume(row.path), spec))
            except DataError as error:
                raise DataError(f"{manifest}: row {number}: {error}; mend the file or take the row out") from None
        stored.append(store.get(key))
    log.info("%d scans of %d subjects in %s", len(stored), rows["subject"].nunique(), folder)
    return stored, rows["subject"].tolist()
