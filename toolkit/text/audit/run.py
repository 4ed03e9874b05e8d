"""Reads texts once and counts: languages, repeats, odd characters, personal data, files that cannot be read."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.console import track
from toolkit.errors import DataError
from toolkit.near_duplicates import Repeat, RepeatFinder
from toolkit.private import private_folder, write_private, writing
from toolkit.text.audit.characters import find_characters
from toolkit.text.audit.config import TextAuditConfig
from toolkit.text.audit.languages import LanguageCheck
from toolkit.text.audit.personal import find_personal, masked
from toolkit.text.sources import Row, RowStream, TextSource, open_source

MOST_SHAPES = 1000
"""Shapes of personal data that are counted for each kind; what comes later is counted without its shape."""
FEW_TEXTS = 100
"""A language with fewer is warned of."""
LANGUAGE_COLUMNS = (
    "read", "empty", "cut", "pieces", "mended", "given", "exact", "near", "kept", "characters", "kept_characters",
)  # fmt: skip


@dataclass
class TextAudit:
    """What an audit found.

    Attributes:
        languages: A row a language, in the order of their kept texts: rows read, empty, cut and mended, the pieces
            more, texts given by the sources, of them exact and near repeats and texts kept, and characters of texts
            given and kept.
        characters: kind, language, texts: odd characters (`FINDINGS`).
        personal: kind, language, texts, places: personal data.
        shapes: kind, shape, places: what matches look like, letters as `a` and digits as `9`; the three commonest.
        others: language, found, texts: texts that are surely in another language. None where it was not looked for.
        refused: path, reason: files that were not read. For its owner alone.
        sources: Names of the sources, and texts of each.
    """

    languages: pd.DataFrame
    characters: pd.DataFrame
    personal: pd.DataFrame
    shapes: pd.DataFrame
    others: pd.DataFrame | None
    refused: pd.DataFrame
    sources: dict[str, int]

    @property
    def rare(self) -> list[str]:
        """Languages of which few texts are kept."""
        return [str(code) for code, kept in self.languages["kept"].items() if kept < FEW_TEXTS]


@dataclass
class _Counts:
    """What one pass counts."""

    texts: Counter[str] = field(default_factory=Counter)
    characters: Counter[tuple[str, str]] = field(default_factory=Counter)
    personal: Counter[tuple[str, str]] = field(default_factory=Counter)
    places: Counter[tuple[str, str]] = field(default_factory=Counter)
    shapes: dict[str, Counter[str]] = field(default_factory=dict)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)


def audit_texts(
    sources: Sequence[str | TextSource], folder: Path | None = None, config: TextAuditConfig | None = None
) -> TextAudit:
    """Reads every text of `sources` once; files that cannot be read are refused and named, not dropped.

    Args:
        sources: See `open_source`.
        folder: A private folder (0700) that gets `refused.csv` (files, and why), `flagged.csv` (source, number of the
            text and what was found in it, never the text), the tables and `audit.html`. Nothing is written without it.
        config: What is looked for.

    Raises:
        DataError: A source does not exist, no text is left, or `folder` holds something else.
    """
    from toolkit.text.audit.page import write_page

    config = config or TextAuditConfig()
    check = LanguageCheck() if config.languages else None
    refused: list[tuple[str, str]] = []
    streams = [
        open_source(source, refuse=lambda path, why: refused.append((str(path), str(why)))) for source in sources
    ]
    folder = private_folder(folder) if folder else None
    finder, counts = RepeatFinder(threshold=config.near, scratch=folder), _Counts()
    codes: dict[str, int] = {}
    of_text: list[np.ndarray] = []
    with _flagging(folder) as flag:
        for portion in _portions(track(_rows(streams, counts), "auditing texts")):
            part = np.empty((len(portion), 2), dtype=np.int32)
            for number, (name, at, row) in enumerate(portion):
                part[number] = codes.setdefault(row.language, len(codes)), len(row.text)
                finder.add(row.text, row.language)
                for kind in _found(row, counts, check, personal=config.personal):
                    flag(name, at, row.language, kind)
            of_text.append(part)
    listed = pd.DataFrame(refused, columns=["path", "reason"])
    if folder:
        write_private(folder / "refused.csv", listed.to_csv(index=False).encode("utf-8", "surrogateescape"))
    if not codes:
        raise DataError(
            f"the corpus is empty: no text in {len(streams)} sources; {len(refused)} files were refused"
            + (f", such as {refused[0][1]}" if refused else "")
        )
    found = _tables(streams, counts, np.concatenate(of_text), list(codes), finder.reasons(), listed, check is not None)
    if folder:
        write_private(folder / "languages.csv", found.languages.to_csv().encode())
        write_page(folder / "audit.html", found, config)
    return found


def _rows(streams: Sequence[RowStream], counts: _Counts) -> Iterator[tuple[str, int, Row]]:
    for stream in streams:
        for at, row in enumerate(stream, start=1):
            counts.texts[stream.name] += 1
            yield stream.name, at, row


def _portions(rows: Iterator[tuple[str, int, Row]], size: int = 4096) -> Iterator[list[tuple[str, int, Row]]]:
    portion = []
    for row in rows:
        portion.append(row)
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion


def _found(row: Row, counts: _Counts, check: LanguageCheck | None, *, personal: bool) -> list[str]:
    """Counts what is in one text, and names it."""
    kinds = find_characters(row.text)
    counts.characters.update((kind, row.language) for kind in kinds)
    matches = find_personal(row.text, row.language) if personal else []
    for match in matches:
        counts.places[match.kind, row.language] += 1
        shapes = counts.shapes.setdefault(match.kind, Counter())
        shape = masked(row.text[match.start : match.end])
        if len(shapes) < MOST_SHAPES or shape in shapes:
            shapes[shape] += 1
    counts.personal.update((kind, row.language) for kind in {match.kind for match in matches})
    kinds += sorted({match.kind for match in matches})
    if check and (other := check.other(row.text, row.language)):
        counts.others[row.language, other] += 1
        kinds.append(f"language {other}")
    return kinds


def _tables(
    streams: Sequence[RowStream],
    counts: _Counts,
    of_text: np.ndarray,
    codes: list[str],
    reasons: np.ndarray,
    refused: pd.DataFrame,
    checked: bool,
) -> TextAudit:
    by_language: dict[str, Counter[str]] = {}
    for stream in streams:
        for language, given in stream.by_language.items():
            by_language.setdefault(language, Counter()).update(given)
    for code, language in enumerate(codes):
        here = of_text[:, 0] == code
        why, lengths = reasons[here], of_text[here, 1]
        by_language[language].update(
            {
                "exact": int((why == Repeat.EXACT).sum()),
                "near": int((why == Repeat.NEAR).sum()),
                "kept": int((why == Repeat.NONE).sum()),
                "characters": int(lengths.sum()),
                "kept_characters": int(lengths[why == Repeat.NONE].sum()),
            }
        )
    languages = pd.DataFrame.from_dict(by_language, orient="index").reindex(columns=list(LANGUAGE_COLUMNS))
    languages = languages.fillna(0).astype(np.int64).rename_axis("language")
    languages = languages.sort_values(["kept", "language"], ascending=[False, True])
    shapes = [(kind, *one) for kind, found in counts.shapes.items() for one in found.most_common(3)]
    others = pd.DataFrame([(*key, n) for key, n in counts.others.most_common()], columns=["language", "found", "texts"])
    personal = [(kind, code, n, counts.places[kind, code]) for (kind, code), n in counts.personal.most_common()]
    return TextAudit(
        languages=languages,
        characters=pd.DataFrame(
            [(*key, n) for key, n in counts.characters.most_common()], columns=["kind", "language", "texts"]
        ),
        personal=pd.DataFrame(personal, columns=["kind", "language", "texts", "places"]),
        shapes=pd.DataFrame(shapes, columns=["kind", "shape", "places"]),
        others=others if checked else None,
        refused=refused,
        sources=dict(counts.texts),
    )


@contextmanager
def _flagging(folder: Path | None) -> Iterator[Callable[..., None]]:
    """Writes the lines of `flagged.csv`, and puts it in place at the end; does nothing without a folder."""
    if folder is None:
        yield lambda *cells: None
        return
    partial = folder / ".flagged.csv.tmp"
    try:
        with writing(partial):
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("source", "text", "language", "found"))
            yield lambda *cells: writer.writerow(cells)
        partial.replace(folder / "flagged.csv")
    finally:
        partial.unlink(missing_ok=True)
