"""How the members of a card are read. The text and scan rooms interpret it; nothing here opens a file."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from toolkit.config import Section

Patterns = TypeVar("Patterns", bound=Iterable[str])


def _compiles(patterns: Patterns) -> Patterns:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return patterns


class TextReader(Section):
    """What the readers of text share."""

    member: str
    """The member's name in the data folder; `*` for any part of one path component."""
    constants: dict[Literal["label", "language", "group", "source"], str] = Field(default_factory=dict)
    """Values of every row of the file: `label` (a class name), `language`, `group`, `source` (the domain)."""
    replace: dict[str, str] = Field(default_factory=dict)
    """Regular expressions and what their matches become in each text, in this order: for placeholders,
    markup, names of people."""
    unescape_html: bool = False
    """Turn `&amp;` and its kind into characters, before `replace`."""
    encoding: str = "utf-8"
    """Of the file's bytes."""

    _replace_compiles = field_validator("replace")(_compiles)


class ColumnReader(TextReader):
    """What the readers of tables share: which column is what. Columns not named here are never read."""

    text: str
    """The column of the texts."""
    label: str | None = None
    """The column of the labels, raw; the card's `label_map` makes classes of them."""
    language: str | None = None
    """The column of the language (ISO 639-1). Without one, `constants.language` or the card's only one."""
    group: str | None = None
    """The column of what must not straddle a split: a person, a document. It is hashed on reading."""
    group_pattern: str | None = None
    """A regular expression with one group, which picks the group out of its column (`^(\\d+)_` of `12_3`)."""
    source: str | None = None
    """The column of the domain or site."""

    @field_validator("group_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and (_compiles((pattern,)) and re.compile(pattern).groups != 1):
            raise ValueError("must hold exactly one group in parentheses")
        return pattern


class TableReader(ColumnReader):
    """A delimited table."""

    format: Literal["table"] = "table"
    delimiter: str = ","
    """What stands between columns; `"\\t"` for a tab."""
    header_rows: int = Field(1, ge=0, le=9)
    """Rows before the data; the first has the column names (Orange's `.tab` has 3, a bare table 0)."""
    columns: tuple[str, ...] = ()
    """Column names, where `header_rows` is 0."""
    quoted: bool = True
    """Whether `"` quotes a field; without, it is a character like any other."""


class JsonLinesReader(ColumnReader):
    """One JSON object a line."""

    format: Literal["jsonl"] = "jsonl"


class ParquetReader(ColumnReader):
    """A Parquet file."""

    format: Literal["parquet"] = "parquet"


class SqliteReader(ColumnReader):
    """One table of an SQLite file."""

    format: Literal["sqlite"] = "sqlite"
    table: str
    """The table's name."""


class LinesReader(TextReader):
    """One text a line."""

    format: Literal["lines"] = "lines"


class DocumentsReader(TextReader):
    """One text a file: letters, reports. The file is the text's group, under a pseudonym."""

    format: Literal["documents"] = "documents"


class ParallelReader(TextReader):
    """A delimited table with a column of texts for each language; the texts of a row translate each other.

    Their group is a digest of the row's texts, so that translations of one text share it.
    """

    format: Literal["parallel"] = "parallel"
    languages: dict[str, str] = Field(min_length=1)
    """Each column of texts, and its language (ISO 639-1)."""
    delimiter: str = "\t"
    """What stands between columns."""
    header_rows: int = Field(1, ge=0, le=9)
    """Rows before the data; the first has the column names."""
    columns: tuple[str, ...] = ()
    """Column names, where `header_rows` is 0."""
    quoted: bool = False
    """Whether `"` quotes a field; without, it is a character like any other."""


class TmxReader(TextReader):
    """A translation memory (TMX); the variants of a unit share a group, a digest of their texts."""

    format: Literal["tmx"] = "tmx"
    languages: dict[str, str] = Field(default_factory=dict)
    """Each `xml:lang` to be read, and its language (`pt-BR: pt`); by default all, by their first part."""


class GettextReader(TextReader):
    """Catalogues of translations (`.po`, `.mo`), one a language.

    Each translated message is a text, of a plural the last form; fuzzy and obsolete ones are left out. Its
    group is the message (context and id), so that translations of one message share a group.
    """

    format: Literal["gettext"] = "gettext"
    languages: dict[str, str]
    """What the last `*` of `member` takes for each catalogue to be read, and its language (ISO 639-1)."""
    originals: str | None = None
    """Language of the originals, which become texts too: the `Default: "..."` comment, or else the id."""


class VolumeReader(Section):
    """A scan, or a volume of labels."""

    format: Literal["volume"] = "volume"
    member: str
    """The member's name in the data folder; `*` for any part of one path component."""
    role: Literal["image", "labels"] = "image"
    """Intensities, or the ids that the card's `label_map` groups into classes."""
    subject: str | None = None
    """Pseudonym of the person; without one each file is a subject of its own. It never straddles a split."""
    population: Literal["person", "average"] = "person"
    """Whether it shows one person or an average of many."""
    space: str | None = None
    """The reference space in which its affine places it, if any (`MNI152`); volumes in one space overlay."""
    labels_for: tuple[str, ...] = ()
    """For `labels`: the subjects on which they were drawn. In one space they hold for others too, roughly."""


Reader = Annotated[
    TableReader
    | JsonLinesReader
    | ParquetReader
    | SqliteReader
    | LinesReader
    | DocumentsReader
    | GettextReader
    | ParallelReader
    | TmxReader
    | VolumeReader,
    Field(discriminator="format"),
]
