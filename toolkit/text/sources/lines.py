"""Plain text: a text a line, a text a file, or a JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path

from toolkit.cards.reader import DocumentsReader, JsonLinesReader, LinesReader
from toolkit.errors import DataError
from toolkit.text.sources.opening import LONGEST, lines_of, open_text
from toolkit.text.sources.row import Row, cell, columns_of, require_columns


def read_lines(path: Path, reader: LinesReader) -> Iterator[Row]:
    """A row a line."""
    with open_text(path, reader.encoding) as file:
        for line in lines_of(file, path):
            yield Row(line)


def read_document(path: Path, reader: DocumentsReader) -> Iterator[Row]:
    """The file as one row, its name as group.

    Raises:
        DataError: It has more than `LONGEST` characters.
    """
    with open_text(path, reader.encoding) as file:
        text = file.read(LONGEST)
        if file.read(1):
            raise DataError(f"{path}: has more than {LONGEST:,} characters; put a text on each line, `format: lines`")
    yield Row(text, group=path.name)


def read_json_lines(path: Path, reader: JsonLinesReader) -> Iterator[Row]:
    """A row an object; keys that an object lacks are empty.

    Raises:
        DataError: A line is no object (the message has its number), or no object has one of the columns.
    """
    names = columns_of(reader)
    unseen = set(names.values())
    known: dict[str, None] = {}
    with open_text(path, reader.encoding) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: is not JSON: {error.msg} at column {error.colno}") from None
            except ValueError as error:  # a number of thousands of digits
                raise DataError(f"{path}, line {number}: is not read: {error}") from None
            except RecursionError:
                raise DataError(f"{path}, line {number}: is nested too deeply for a row of texts") from None
            if not isinstance(value, dict):
                raise DataError(f"{path}, line {number}: must hold an object in braces")
            if not known and reader.text not in value:
                require_columns(path, [reader.text], list(value))
            if unseen:
                unseen -= value.keys()
                known |= dict.fromkeys(value)
            yield Row(**{column: cell(value.get(name)) for column, name in names.items()})
    if not known:
        raise DataError(f"{path}: the corpus is empty")
    require_columns(path, sorted(unseen), list(known))
