"""Parquet and SQLite: only the columns that are wanted are read, a portion of rows at a time."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.cards.reader import ParquetReader, SqliteReader
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.text.sources.row import Row, cell, columns_of, require_columns

ROWS_AT_ONCE = 1024
"""Of a Parquet file: few enough that long documents fit the memory."""


def read_parquet(path: Path, reader: ParquetReader) -> Iterator[Row]:
    """A row a row.

    Raises:
        DataError: It is no Parquet file, or lacks a column.
    """
    _must_exist(path)
    try:
        with pq.ParquetFile(path) as file:
            names = columns_of(reader)
            require_columns(path, names.values(), file.schema_arrow.names)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(dict.fromkeys(names.values()))):
                columns = [batch.column(name).to_pylist() for name in names.values()]
                for cells in zip(*columns, strict=True):
                    yield Row(**dict(zip(names, map(cell, cells), strict=True)))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a Parquet file: {str(error).splitlines()[0]}") from None


def read_sqlite(path: Path, reader: SqliteReader) -> Iterator[Row]:
    """A row a row of one table.

    Raises:
        DataError: It is no SQLite file, or lacks the table or a column.
    """
    _must_exist(path)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if reader.table not in tables:
                raise DataError(f"{path}: has no table {reader.table!r}; {nearest(reader.table, tables)}")
            known = [row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(reader.table)})")]
            names = columns_of(reader)
            require_columns(path, names.values(), known)
            columns = ", ".join(map(_quoted, names.values()))
            for cells in connection.execute(f"SELECT {columns} FROM {_quoted(reader.table)}"):
                yield Row(**dict(zip(names, map(cell, cells), strict=True)))
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: is not an SQLite file: {error}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
