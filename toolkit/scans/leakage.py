"""Which scans may not be on both sides: the same subject, study or file, or one that shows the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.console import log
from toolkit.errors import DataError
from toolkit.scans.fingerprints import clusters, near_any
from toolkit.scans.manifest import read_manifest
from toolkit.splits import Seen, joined, refuse_overlap, refuse_seen, stratified_split


def manifest_seen(rows: pd.DataFrame) -> Seen:
    """What a manifest's scans show, row by row."""
    return Seen(rows["subject"].tolist(), rows["content_hash"].tolist(), rows["fingerprint"].tolist())


def refuse_held_out(
    pretraining: Seen, held_out: Sequence[Path | Seen], *, before: Path | None = None, allow: bool = False
) -> None:
    """Stops when pretraining would see a scan that is to be tested on, or starts from an encoder that saw one.

    Args:
        pretraining: What pretraining will see.
        held_out: Scans that will be tested on, or manifests that list them.
        before: Folder of a saved encoder that pretraining starts from.
        allow: Only warn.

    Raises:
        DataError: A subject, a file or a near-duplicate of theirs is in the pretraining data, with the list; or nothing
            says what was seen `before`, whether anything is held out or not; or a manifest cannot be read.
    """
    for test in held_out or [Seen([])]:
        where = "" if isinstance(test, Seen) else f"{test}: "
        shown = test if isinstance(test, Seen) else manifest_seen(read_manifest(test))
        try:
            refuse_overlap(pretraining, shown, near=near_any, allow=allow)
            if before is not None:
                where += "init.path: "
                refuse_pretrained_on(before, shown, allow=allow)
        except DataError as error:
            raise DataError(f"{where}{error}") from None


def refuse_pretrained_on(encoder: Path, test: Seen, *, allow: bool = False) -> None:
    """Stops when a saved encoder's pretraining saw a scan that is to be tested on; see `splits.refuse_seen`.

    Args:
        encoder: The saved encoder's folder.
        test: Scans that will be tested on.
        allow: Only warn.

    Raises:
        DataError: Pretraining saw one of their subjects, files or near-duplicates, with the list; or nothing can tell.
    """
    refuse_seen(encoder, test, near=near_any, allow=allow)


def units_of(rows: pd.DataFrame) -> np.ndarray:
    """What a split must not part: (N,) index of the first row of each row's unit.

    Rows are linked by subject, by study (a subject may have been guessed), by content hash, and by fingerprints that
    are near, also through other rows.
    """
    missing = int((rows["fingerprint"] == "").sum())
    if missing:
        log.warning(
            "%d of %d scans without a fingerprint: near-duplicates among them are not found; `fewlabel data audit` "
            "writes them",
            missing,
            len(rows),
        )
    return joined(rows["subject"], rows["study"], rows["content_hash"], clusters(rows["fingerprint"].tolist()))


def split_manifest(
    rows: pd.DataFrame, *, share: float, stratify: Sequence[str] = ("site", "label"), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts a manifest by units, with each site's and label's share on both sides; see `stratified_split`.

    Returns:
        Rows to train on and rows to test on, both ascending, and the unit of each row, see `units_of`.

    Raises:
        DataError: There is only one unit.
    """
    units = units_of(rows)
    train, test = stratified_split(units, [rows[column].tolist() for column in stratify], share=share, seed=seed)
    return train, test, units
