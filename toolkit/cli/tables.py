"""A table of texts that nobody has described yet: which column is what."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from toolkit.errors import DataError
from toolkit.registry import nearest

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".parquet")
MAX_CLASSES = 50
_MIN_CHARACTERS = 8  # a column whose cells are shorter on average holds codes or names, not texts
_NAMES = {
    "text": (
        "text",
        "body",
        "content",
        "comment",
        "review",
        "sentence",
        "message",
        "report",
        "snippet",
        "title",
    ),
    "label": (
        "label",
        "class",
        "category",
        "sentiment",
        "target",
        "rating",
        "score",
        "stars",
        "diagnosis",
        "y",
    ),
    "language": ("language", "lang", "locale"),
    "group": ("group", "patient", "subject", "user", "author", "document", "doc", "thread"),
}
_PERSONAL = re.compile(r"name|e?mail|phone|address|birth|user|author|patient|ip$", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """What a table of texts holds.

    Attributes:
        frame: Every cell as a string, an empty one for what is missing.
        format: "table", "jsonl" or "parquet", as in a card's reader.
        delimiter: Between the columns of a "table".
        encoding: Of the file.
        text: Column of the texts.
        label: Column of the labels, if any.
        language: Column of the languages, if any.
        group: Column of what must not straddle a split, if any.
    """

    frame: pd.DataFrame
    format: str
    delimiter: str
    encoding: str
    text: str
    label: str | None
    language: str | None
    group: str | None

    @property
    def personal(self) -> list[str]:
        """Columns that look personal and that nothing needs."""
        used = {self.text, self.label, self.language, self.group}
        return [column for column in self.frame if _PERSONAL.search(column) and column not in used]


def describe_table(path: Path, text: str | None = None, label: str | None = None) -> Table:
    """Reads a table and guesses its columns.

    Args:
        path: A file of `SUFFIXES`.
        text: Column of the texts, where it is known.
        label: Column of the labels, where it is known.

    Raises:
        DataError: It is no table, has no rows, lacks a named column, or no column looks like texts.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: not a table of texts; one ends in {', '.join(SUFFIXES)}")
    frame, kind, delimiter, encoding = _read(path)
    if frame.empty:
        raise DataError(f"{path}: the corpus is empty: it has no rows")
    for given in (text, label):
        if given is not None and given not in frame:
            raise DataError(f"{path}: has no column {given!r}; {nearest(given, list(frame))}")
    columns = [column for column in frame if column not in (text, label)]
    language = _named(columns, "language")
    columns = [column for column in columns if column != language]
    text = text or _guess_text(frame, columns, path)
    columns = [column for column in columns if column != text]
    label = label or _guess_label(frame, columns)
    group = _named([column for column in columns if column != label and frame[column].duplicated().any()], "group")
    if label and (num := _values(frame[label]).nunique()) > MAX_CLASSES:
        raise DataError(f"{path}: column {label!r} has {num} values, too many for classes; group them into fewer first")
    return Table(frame, kind, delimiter, encoding, text, label, language, group)


def class_counts(table: Table) -> dict[str, int]:
    """Each raw label and how many rows have it, in order."""
    if table.label is None:
        return {}
    counts = _values(table.frame[table.label]).value_counts()
    return {str(value): int(counts[value]) for value in sorted(counts.index, key=_numbers_first)}


def _read(path: Path) -> tuple[pd.DataFrame, str, str, str]:
    try:
        if path.suffix == ".parquet":
            return _strings(pd.read_parquet(path)), "parquet", "", ""
        content, encoding = _decode(path.read_bytes())
        if path.suffix in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in content.split("\n") if line.strip()]
            return _strings(pd.DataFrame(rows, dtype=object)), "jsonl", "", encoding
        header = content.partition("\n")[0]
        delimiter = "\t" if path.suffix in (".tsv", ".tab") else max(",;\t|", key=header.count)
        frame = pd.read_csv(io.StringIO(content), sep=delimiter, dtype=str, keep_default_na=False)
    except (OSError, ValueError, csv.Error) as error:  # pandas', JSON's and pyarrow's errors are ValueErrors
        raise DataError(f"{path}: is not a table that can be read: {' '.join(str(error).split())[:200]}") from None
    return _strings(frame), "table", delimiter, encoding


def _decode(content: bytes) -> tuple[str, str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), "utf-16"
    encoding = "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "cp1252"


def _strings(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells as strings, and columns without a name (those that pandas writes for its index) left out."""
    frame.columns = [str(column) for column in frame.columns]
    named = [column for column in frame if column and not column.startswith("Unnamed:")]
    return frame[named].astype(object).fillna("").astype(str)


def _guess_text(frame: pd.DataFrame, columns: list[str], path: Path) -> str:
    lengths = {column: float(_values(frame[column]).str.len().mean()) for column in columns}
    long = [column for column in columns if lengths[column] >= _MIN_CHARACTERS]
    if not long:
        raise DataError(f"{path}: no column looks like texts; say which with --text; it has {', '.join(frame)}")
    named = _named([column for column in long if lengths[column] >= max(lengths.values()) / 4], "text")
    return named or max(long, key=lambda column: lengths[column])


def _guess_label(frame: pd.DataFrame, columns: list[str]) -> str | None:
    def few(column: str, most: int) -> bool:
        values = _values(frame[column])
        return bool(2 <= values.nunique() <= min(most, len(values) / 2))

    named = _named([column for column in columns if few(column, MAX_CLASSES)], "label")
    return named or next((column for column in columns if few(column, 12) and not _PERSONAL.search(column)), None)


def _named(columns: list[str], meaning: str) -> str | None:
    """The column that is called, or nearly called, what a column of this meaning usually is."""
    words = {column: set(re.split(r"[^a-z]+", column.casefold())) for column in columns}
    return next((column for name in _NAMES[meaning] for column in columns if name in words[column]), None)


def _values(column: pd.Series) -> pd.Series:
    return column[column.str.strip() != ""]


def _numbers_first(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value
