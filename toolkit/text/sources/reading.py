"""Reads one file as its reader says, or all that a data card describes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toolkit.cards import DataCard
from toolkit.cards.reader import GettextReader, ParallelReader, TextReader, TmxReader, VolumeReader
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.text.sources.catalogues import read_catalogue, read_gettext, read_tmx
from toolkit.text.sources.columnar import read_parquet, read_sqlite
from toolkit.text.sources.lines import read_document, read_json_lines, read_lines
from toolkit.text.sources.row import Row, finished, with_pseudonyms
from toolkit.text.sources.tables import read_parallel, read_table

_READ: dict[str, Callable[[Path, Any], Iterator[Row]]] = {
    "lines": read_lines,
    "documents": read_document,
    "table": read_table,
    "jsonl": read_json_lines,
    "parquet": read_parquet,
    "sqlite": read_sqlite,
    "gettext": read_catalogue,
    "parallel": read_parallel,
    "tmx": read_tmx,
}


def read_card_rows(
    card: DataCard, folder: Path, refuse: Callable[[Path, DataError], None] | None = None
) -> Iterator[Row]:
    """The rows of a card as its readers say, labels raw, languages checked, empty texts among them.

    Args:
        card: The card.
        folder: Its verified data, as `toolkit.cards.fetch` returns it.
        refuse: Is told of a file that cannot be read, instead of an error; catalogues are one file here.

    Raises:
        DataError: A file, table or column is missing, a line is broken, or a language is not on the card.
    """
    for reader in card.reader:
        if isinstance(reader, VolumeReader):
            raise DataError(f"{card.path}: reader.format: a volume is not text; use this card in the scan leg")
        if isinstance(reader, GettextReader):
            members = {folder / reader.member: finished(read_gettext(folder, reader), reader)}
        else:
            members = {path: read_file(path, reader) for path in _members(card, reader, folder)}
        for path, rows in members.items():
            try:
                for row in rows:
                    yield row._replace(language=_language(row.language, card), source=row.source or card.name)
            except DataError as error:
                if refuse is None:
                    raise
                refuse(path, error)


def read_file(path: Path, reader: TextReader) -> Iterator[Row]:
    """The rows of one file, cleaned, with pseudonyms for the groups that the data name.

    Raises:
        DataError: It cannot be read; the message has the file and, in text, the line.
    """
    rows = finished(_READ[reader.format](path, reader), reader)  # type: ignore[attr-defined]
    names_nobody = isinstance(reader, GettextReader | ParallelReader | TmxReader)
    return rows if names_nobody else with_pseudonyms(rows)


def _members(card: DataCard, reader: TextReader, folder: Path) -> list[Path]:
    found = sorted(folder.glob(reader.member))
    if not found:
        raise DataError(f"{folder}: has no {reader.member!r}; run `fewlabel data verify {card.name}`")
    return found


def _language(language: str, card: DataCard) -> str:
    language = language.strip()
    if not language:
        if len(card.languages) == 1:
            return card.languages[0]
        if "und" not in card.languages:
            raise DataError(f"{card.path}: a text has no language; add und to language for such texts")
        return "und"
    if language not in card.languages:
        raise DataError(
            f"{card.path}: language {language!r} of the data is unknown; {nearest(language, list(card.languages))}"
        )
    return language
