"""A text and what is known of it, as every source gives it."""

import hashlib
import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from toolkit.cards.pseudonyms import pseudonym, pseudonym_key
from toolkit.cards.reader import ColumnReader, TextReader
from toolkit.errors import DataError
from toolkit.registry import nearest


class Row(NamedTuple):
    """One text. Everything but the text may be empty."""

    text: str
    """White space runs are single spaces."""
    language: str = ""
    """ISO 639."""
    source: str = ""
    """Domain or site."""
    label: str = ""
    """As the data have it."""
    group: str = ""
    """What must not straddle a split: a pseudonym of what the data name, or a digest of a translated message."""


def cell(value: Any) -> str:
    """What stands in a cell of a table or a field of JSON; nothing for what is missing or not a number."""
    return "" if value is None or value != value else str(value)


def columns_of(reader: ColumnReader) -> dict[str, str]:
    """Which column of the data is which field of a `Row`."""
    return {column: getattr(reader, column) for column in Row._fields if getattr(reader, column)}


def require_columns(origin: object, names: Iterable[str], known: Sequence[str]) -> None:
    """Stops where a column is missing.

    Raises:
        DataError: One of `names` is not among `known`; the message has the nearest.
    """
    for name in names:
        if name not in known:
            raise DataError(f"{origin}: has no column {name!r}; {nearest(name, list(known))}")


def finished(rows: Iterable[Row], reader: TextReader) -> Iterator[Row]:
    """Rows with the reader's constants in their columns, the group picked out and the text cleaned."""
    clean = _cleaner(reader)
    constants = dict(reader.constants)
    pattern = getattr(reader, "group_pattern", None)
    pick = re.compile(pattern) if pattern else None
    for row in rows:
        if constants:
            row = row._replace(**constants)
        if pick:
            found = pick.search(row.group)
            row = row._replace(group=(found[1] or "") if found else "")
        yield row._replace(text=clean(row.text))


def with_pseudonyms(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows whose groups name nobody: group 7 of one source is not group 7 of another, and neither is told as 7."""
    name: Callable[..., str] | None = None
    for row in rows:
        if row.group:
            name = name or partial(pseudonym, pseudonym_key())
            row = row._replace(group=name(row.source, row.group))
        yield row


def digest(*parts: str) -> str:
    """A group's name where it names nobody: 16 hex digits of what translates each other."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _cleaner(reader: TextReader) -> Callable[[str], str]:
    replacements = [(re.compile(pattern), replacement) for pattern, replacement in reader.replace.items()]

    def clean(text: str) -> str:
        if reader.unescape_html:
            text = html.unescape(text)
        for pattern, replacement in replacements:
            text = pattern.sub(replacement, text)
        return " ".join(text.split())

    return clean
