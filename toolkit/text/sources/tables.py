"""Delimited tables: one text a row, or one a language."""

import csv
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from toolkit.cards.reader import ParallelReader, TableReader
from toolkit.errors import DataError
from toolkit.text.sources.opening import LONGEST, lines_of, open_text
from toolkit.text.sources.row import Row, columns_of, digest, require_columns

_END = "\0endoftable\0"
"""A line of its own behind the last one: if it comes back inside a cell, a quote was never closed."""


def read_table(path: Path, reader: TableReader) -> Iterator[Row]:
    """A row of the table a row; cells that a short one lacks are empty.

    Raises:
        DataError: A column is missing (the message has the nearest), a row is longer than the header, or a quote is
            not closed; the message has the line.
    """
    for cells in _records(path, reader, columns_of(reader)):
        yield Row(**cells)


def read_parallel(path: Path, reader: ParallelReader) -> Iterator[Row]:
    """For each row of the table a row a language, those without text left out.

    Raises:
        DataError: See `read_table`.
    """
    columns = {column: column for column in reader.languages}
    for cells in _records(path, reader, columns):
        texts = {reader.languages[column]: text for column, text in cells.items() if text.strip()}
        group = digest(*(part for pair in sorted(texts.items()) for part in pair))
        for language, text in texts.items():
            yield Row(text, language, group=group)


def _records(path: Path, reader: TableReader | ParallelReader, names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The cells of each row under the keys of `names`."""
    csv.field_size_limit(LONGEST)
    with open_text(path, reader.encoding, newline="") as file:
        records = csv.reader(
            chain(lines_of(file, path), [_END]),
            delimiter=reader.delimiter,
            quoting=csv.QUOTE_MINIMAL if reader.quoted else csv.QUOTE_NONE,
        )
        header: list[str] = []
        where: dict[str, int] | None = None
        begins = 1
        try:
            for number, record in enumerate(records):
                line, begins = begins, records.line_num + 1
                if record == [_END]:
                    break
                if record and _END in record[-1]:
                    raise DataError(
                        f"{path}, line {line}: a quote that opens here is never closed; if quotes are characters "
                        "like others say `quoted: false`"
                    )
                if number < reader.header_rows:
                    header = record if number == 0 else header
                    continue
                if not record:
                    continue
                if where is None:
                    header = list(reader.columns) or header
                    require_columns(path, names.values(), header)
                    where = {key: header.index(name) for key, name in names.items()}
                if len(record) > len(header):
                    raise DataError(
                        f"{path}, line {line}: has {len(record)} fields, the table has {len(header)} columns; check "
                        "`delimiter` and `quoted`"
                    )
                yield {key: record[at] if at < len(record) else "" for key, at in where.items()}
        except csv.Error as error:
            raise DataError(
                f"{path}, line {begins}: is not a table: {error}; check `quoted`: a quote may never be closed"
            ) from None
        if where is None:
            require_columns(path, names.values(), list(reader.columns) or header)
            raise DataError(f"{path}: the corpus is empty: the table has no rows")
