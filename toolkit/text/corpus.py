"""A corpus: texts with language, source, label and group, without repeats and without contradictions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pandas as pd

from toolkit.errors import DataError
from toolkit.near_duplicates import canonical, clusters, near_any
from toolkit.registry import nearest

COLUMNS = ("text", "language", "source", "label", "group")
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts and what is known of them.

    Attributes:
        frame: Columns text, language (ISO 639), source (domain or site), label (class id, -1 where unknown)
            and group (what must not straddle a split); the index is 0 to N - 1.
        class_names: Names of the classes in the order of their ids.
        counts: What reading and deduplication found: read, empty, repeated, contradicting, kept, and so on.
    """

    frame: pd.DataFrame
    class_names: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def texts(self) -> list[str]:
        """N texts."""
        return self.frame["text"].tolist()

    @property
    def labels(self) -> np.ndarray:
        """(N,) class ids, -1 where unknown."""
        return self.frame["label"].to_numpy(dtype=int)

    @property
    def languages(self) -> np.ndarray:
        """(N,) language codes."""
        return self.frame["language"].to_numpy(dtype=object)

    @property
    def groups(self) -> np.ndarray:
        """(N,) groups."""
        return self.frame["group"].to_numpy(dtype=object)

    def take(self, rows: np.ndarray) -> Self:
        """The rows at these indices, or where a boolean array is true."""
        return replace(self, frame=self.frame[rows] if rows.dtype == bool else self.frame.iloc[rows]).renumbered()

    def of_language(self, language: str) -> Self:
        """The texts of one language.

        Raises:
            DataError: There are none.
        """
        known = sorted(set(self.languages))
        if language not in known:
            raise DataError(f"no texts in language {language!r}; {nearest(language, known)}")
        return self.take(self.languages == language)

    def of_languages(self, languages: Sequence[str]) -> Self:
        """The texts of several languages; all texts when `languages` is empty.

        Raises:
            DataError: One of them has none.
        """
        if not languages:
            return self
        for language in languages:
            self.of_language(language)
        return self.take(np.isin(self.languages, languages))

    def without(self, held_out: Sequence[str], *, threshold: float = 0.8) -> Self:
        """The corpus without near-duplicates of `held_out`, so that no other source brings a test text
        back."""
        return self.take(~near_any(self.texts, held_out, threshold=threshold))

    def renumbered(self) -> Self:
        """The same with rows numbered from 0."""
        return replace(self, frame=self.frame.reset_index(drop=True))


def build_corpus(rows: pd.DataFrame, *, origin: str, class_names: Sequence[str] = (), near: float = 0.8) -> Corpus:
    """Drops empty texts, repeats (exact and near, in one language) and texts whose repeats disagree in label.

    A repeat of a labelled text may lack the label: the labelled one is kept.

    Args:
        rows: Columns as `COLUMNS`; an empty group becomes a digest of the text, the same wherever the text is read.
        origin: Where the rows come from, for the error.
        class_names: Names of the classes.
        near: Jaccard index from which texts are near-duplicates; 1 for exact repeats only.

    Returns:
        The corpus; its `counts` say what was dropped. The text of a cluster that comes first is kept.

    Raises:
        DataError: Nothing is left.
    """
    counts = {"read": len(rows)}
    has_words = rows["text"].map(canonical).astype(bool).to_numpy(dtype=bool)
    rows = rows.loc[has_words, list(COLUMNS)].reset_index(drop=True)
    counts["empty"] = counts["read"] - len(rows)
    if rows.empty:
        raise DataError(f"{origin}: the corpus is empty: {counts['read']} rows, none with words in its text")

    labels = rows["label"].to_numpy(dtype=int)
    cluster = np.empty(len(rows), dtype=int)
    for language in rows["language"].unique():
        where = np.flatnonzero(rows["language"] == language)
        cluster[where] = where[clusters(rows["text"].iloc[where].tolist(), threshold=near)]
    labelled = pd.Series(labels)[labels != NO_LABEL]
    disagreeing = labelled.groupby(cluster[labels != NO_LABEL]).nunique()
    contradicting = np.isin(cluster, disagreeing.index[disagreeing > 1])
    order = np.lexsort((np.arange(len(rows)), labels == NO_LABEL))  # labelled ones first, otherwise as read
    _, first = np.unique(cluster[order], return_index=True)
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[first]] = True
    kept &= ~contradicting
    counts["contradicting"] = int(contradicting.sum())
    counts["repeated"] = int((~kept & ~contradicting).sum())
    counts["kept"] = int(kept.sum())
    counts["labelled"] = int((labels[kept] != NO_LABEL).sum())
    if not kept.any():
        raise DataError(f"{origin}: the corpus is empty: the labels of all {len(rows)} texts contradict each other")

    rows = rows[kept].reset_index(drop=True)
    alone = rows["group"].fillna("") == ""
    rows.loc[alone, "group"] = [text_digest(text) for text in rows["text"][alone]]
    return Corpus(rows, tuple(class_names), counts)


def text_digest(text: str) -> str:
    return hashlib.sha256(canonical(text).encode()).hexdigest()[:16]


def concatenate(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus of several; counts are added up, and class names must agree where there are any.

    Raises:
        DataError: Two corpora name their classes differently.
    """
    names = {corpus.class_names for corpus in corpora if corpus.class_names}
    if len(names) > 1:
        raise DataError(f"corpora with different classes cannot be joined: {' and '.join(map(str, sorted(names)))}")
    counts: dict[str, int] = {}
    for corpus in corpora:
        for name, count in corpus.counts.items():
            counts[name] = counts.get(name, 0) + count
    frame = pd.concat([corpus.frame for corpus in corpora], ignore_index=True)
    return Corpus(frame, names.pop() if names else (), counts)
