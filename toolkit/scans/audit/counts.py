"""What `audit.html` counts. It is shown around, so no count is of so few that one of them could be meant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from toolkit.cards.pseudonyms import is_pseudonym

FEWEST_SHOWN = 5
"""Persons; a count of fewer is hidden. 0 is not: it says something of nobody."""
HIDDEN = "–"
_MOST_ROWS, _MOST_LABELS, _MOST_SITES = 20, 20, 8
_LONGEST_LABEL = 40
_FEWEST_DIGITS = 6


@dataclass(frozen=True)
class Table:
    """A table of the page, ready to print.

    Attributes:
        title: Its caption.
        columns: Their headings.
        rows: Heading and cells of each.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def tables(manifest: pd.DataFrame) -> list[Table]:
    """Sites, scanners, modalities, sequences: for each value its subjects and scans, the most frequent first."""
    manifest = _named(manifest)
    return [_by_value(manifest, column) for column in ("site", "scanner", "modality", "sequence")]


def label_table(manifest: pd.DataFrame) -> Table | None:
    """For each label its subjects, its scans, and its subjects at each site. None without labels.

    A label may be anything: one that a single subject has, or a long one, is not named.
    """
    given = _named(manifest).loc[manifest["label"] != ""].copy()
    if given.empty:
        return None
    subjects = given.groupby("label")["subject"].nunique()
    may_name = [name for name in _frequent(given["label"]) if subjects[name] > 1 and len(name) <= _LONGEST_LABEL]
    given["label"], labels = _merged(given["label"], may_name[:_MOST_LABELS])
    given["site"], sites = _merged(given["site"], _frequent(given["site"])[:_MOST_SITES])
    by_label = given.groupby("label")["subject"].agg(["nunique", "size"]).loc[labels]
    by_site = given.groupby(["label", "site"])["subject"].nunique().unstack(fill_value=0).loc[labels, sites]
    persons = np.column_stack([by_label["nunique"], by_site])
    hidden = hidden_counts(persons)
    rows = []
    for name, counts, are_hidden, scans in zip(labels, persons, hidden, by_label["size"], strict=True):
        cells = [_cell(*one) for one in zip(counts, are_hidden, strict=True)]
        rows.append((name, [cells[0], _cell(scans, are_hidden[0]), *cells[1:]]))
    return Table("Labels, and the subjects of each site that have them", ["Label", "Subjects", "Scans", *sites], rows)


def hidden_counts(persons: np.ndarray) -> np.ndarray:
    """Which counts of persons are not shown: those of one to four, and others from which these would follow.

    The sum of a row or column may stand elsewhere, so where something is hidden in one it is two counts at least, more
    persons than one each, and nothing that all sums together give.

    Args:
        persons: (rows, columns); one column may be the sum of others.

    Returns:
        bool, of the same shape.
    """
    hidden = (persons > 0) & (persons < FEWEST_SHOWN)
    num_hidden = -1
    while num_hidden < hidden.sum():
        num_hidden, follow = hidden.sum(), _follow(hidden)
        by_row = zip(persons, hidden, follow, strict=True)
        by_column = zip(persons.T, hidden.T, follow.T, strict=True)
        for counts, mark, known in [*by_row, *by_column]:
            can_hide = np.flatnonzero(~mark & (counts > 0))
            # 0 is shown, so each hidden count is 1 at least: only what is above that is unknown.
            few = mark.sum() == 1 or (counts[mark] - 1).sum() < FEWEST_SHOWN - 1
            if len(can_hide) and mark.any() and (few or known.any()):
                mark[can_hide[np.argmin(counts[can_hide])]] = True
    return hidden


def _follow(hidden: np.ndarray) -> np.ndarray:
    """Which hidden counts the sums of rows and columns give exactly, whatever they are; bool, of the same shape."""
    places = np.argwhere(hidden)
    sums = [np.eye(n)[places[:, axis]].T for axis, n in enumerate(hidden.shape) if hidden.shape[1 - axis] > 1]
    follow = np.zeros_like(hidden)
    if len(places) and sums:
        _, sizes, ways = np.linalg.svd(np.concatenate(sums))
        free = ways[(sizes > 1e-9).sum() :]  # changes of the hidden counts that no sum shows
        follow[tuple(places.T)] = np.abs(free).max(axis=0, initial=0) < 1e-9
    return follow


def labelled_scans(manifest: pd.DataFrame) -> str:
    """How many scans have a label."""
    given = manifest[manifest["label"] != ""]
    return _cell(len(given), 0 < given["subject"].nunique() < FEWEST_SHOWN)


def studies_a_subject(manifest: pd.DataFrame) -> pd.Series:
    """How many subjects have one study, two, ...; those that are not shown are left out."""
    studies = manifest[manifest["study"] != ""].groupby("subject")["study"].nunique()
    counts = studies.value_counts().sort_index()
    return counts[~hidden_counts(counts.to_numpy()[:, None])[:, 0]]


def _by_value(manifest: pd.DataFrame, column: str) -> Table:
    manifest[column], names = _merged(manifest[column], _frequent(manifest[column])[:_MOST_ROWS])
    counted = manifest.groupby(column)["subject"].agg(["nunique", "size"]).loc[names]
    hidden = hidden_counts(counted[["nunique"]].to_numpy())[:, 0]
    rows = [
        (name, [_cell(persons, is_hidden), _cell(scans, is_hidden)])
        for (name, persons, scans), is_hidden in zip(counted.itertuples(), hidden, strict=True)
    ]
    return Table(column.capitalize(), [column.capitalize(), "Subjects", "Scans"], rows)


def _cell(count: int, is_hidden: bool) -> str:
    return HIDDEN if is_hidden else f"{count:,}"


def _named(manifest: pd.DataFrame) -> pd.DataFrame:
    """A copy in which nothing is without a name, and sites have short ones."""
    named = manifest.copy()
    named["site"] = manifest["site"].map(short_names(manifest["site"]))
    columns = ["site", "scanner", "modality", "sequence"]
    named[columns] = named[columns].replace("", "not said")
    return named


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each pseudonym's first digits after its key's mark, as many as tell it from the others; other names as is."""
    digits = {name: name.partition(".")[2] if is_pseudonym(name) else name for name in names}
    pseudonyms = [part for name, part in digits.items() if part != name]
    length = _FEWEST_DIGITS
    while len({part[:length] for part in pseudonyms}) < len(set(pseudonyms)):
        length += 1
    return {name: part if part == name else part[:length] for name, part in digits.items()}


def _frequent(values: pd.Series) -> list[str]:
    """All values, the most frequent first."""
    return list(values.value_counts().sort_index().sort_values(ascending=False, kind="stable").index)


def _merged(values: pd.Series, kept: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """The values, with one name for all that are not kept; and the names in order."""
    num_others = values.nunique() - len(kept)
    others = f"{num_others:,} others"
    return values.where(values.isin(kept), others), [*kept, *([others] if num_others else [])]
