"""Where texts lie and how they are read: a file, a folder, a data card, or a data set of Hugging Face."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from toolkit.cards.reader import (
    DocumentsReader,
    GettextReader,
    JsonLinesReader,
    LinesReader,
    ParallelReader,
    ParquetReader,
    TableReader,
    TextReader,
    TmxReader,
)
from toolkit.config import Section
from toolkit.errors import DataError
from toolkit.text.parallel import catalogue_language
from toolkit.text.sources.opening import plain_suffix

Format = Literal["auto", "lines", "documents", "table", "jsonl", "parquet", "gettext", "tmx", "parallel"]
FORMAT_OF: dict[str, Format] = {
    ".txt": "lines",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "table",
    ".tsv": "table",
    ".tab": "table",
    ".parquet": "parquet",
    ".po": "gettext",
    ".mo": "gettext",
    ".tmx": "tmx",
}
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


class TextSource(Section):
    """Texts of one origin. A plain string is its `path`."""

    path: str = ""
    """A file, a folder with all files of known suffixes below it, or a data card by its name or file; files may be
    compressed (.gz, .xz, .bz2)."""
    dataset: str = ""
    """Instead of `path`: a data set of the Hub, or a folder that the library datasets saved."""
    subset: str = ""
    """Configuration of a data set that has several."""
    split: str = "train"
    """Which part of a data set."""
    revision: str = ""
    """Branch, tag or commit of a data set of the Hub; a commit cannot change underneath."""
    format: Format = "auto"
    """By default as the suffix says: .txt is a text a line (`documents`: a text a file); .csv, .tsv and .tab are tables
    (`parallel`: a column of texts a language); .jsonl, .parquet, .po and .mo (gettext), .tmx."""
    columns: dict[Literal["text", "language", "label", "group", "source"], str] = Field(default_factory=dict)
    """Which column of a table is what; the texts are in `text` unless it says otherwise."""
    language: str = ""
    """Of all texts that have no column of it (ISO 639-1); by default a catalogue's own, else und."""
    language_pattern: str = ""
    """A regular expression with one group that finds the language in a file's path, `([a-z]{2})\\.txt$`."""
    languages: dict[str, str] = Field(default_factory=dict)
    """For `parallel` the language of each column of texts; for .tmx which `xml:lang` are read, and as what."""
    originals: str = ""
    """For gettext: the language of the untranslated messages, which become texts too."""
    encoding: str = "utf-8"
    """Of the files' bytes."""
    delimiter: str = ""
    """Between the columns of a table; by default as the suffix says."""
    quoted: bool = True
    """Whether `"` quotes a field of a table."""
    replace: dict[str, str] = Field(default_factory=dict)
    """Regular expressions and what their matches become in each text, in this order."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.path) == bool(self.dataset):
            raise ValueError("give either path or dataset")
        if self.format == "parallel" and not self.languages:
            raise ValueError("languages: say which column is which language, such as {English: en, Deutsch: de}")
        return self

    @field_validator("language_pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        if pattern:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"is not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError("must hold exactly one group in parentheses")
        return pattern


AnyTextSource = Annotated[TextSource, BeforeValidator(lambda given: as_values(given))]
"""A field of a configuration that takes a `TextSource` or a plain string."""


def as_values(given: Any) -> Any:
    """A plain string as the path of a source."""
    return {"path": given} if isinstance(given, str) else given


def files_of(spec: TextSource) -> tuple[list[Path], list[Path]]:
    """The files that a source reads, and those below its folder that it does not, in the order of their names.

    Raises:
        DataError: No such file or folder, or it holds nothing that is read.
    """
    root = Path(spec.path).expanduser()
    if not root.is_dir():
        if spec.format == "auto" and plain_suffix(root) not in FORMAT_OF:
            raise DataError(
                f"{root}: {plain_suffix(root) or 'no suffix'} is not read; use {', '.join(FORMAT_OF)} "
                "(and .gz, .xz, .bz2), or say `format`"
            )
        return [root], []
    found: tuple[list[Path], list[Path]] = [], []
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden:
            found[not _is_read(path, spec)].append(path)
    if not found[0]:
        others = sorted({path.suffix for path in found[1]} - {""})
        raise DataError(
            f"{root}: holds no file that is read ({', '.join(FORMAT_OF)})"
            + (f"; it has {', '.join(others)}" if others else "")
        )
    return found


def reader_of(spec: TextSource, path: Path) -> TextReader:
    """How one file of a source is read."""
    suffix = plain_suffix(path)
    kind = FORMAT_OF[suffix] if spec.format == "auto" else spec.format
    shared: dict[str, Any] = {"member": path.name, "encoding": spec.encoding, "replace": spec.replace}
    columns = {"text": "text"} | spec.columns
    delimiter = spec.delimiter or DELIMITERS.get(suffix, "\t" if kind == "parallel" else ",")
    match kind:
        case "lines":
            return LinesReader(**shared)
        case "documents":
            return DocumentsReader(**shared)
        case "table":
            return TableReader(**shared, **columns, delimiter=delimiter, quoted=spec.quoted)
        case "jsonl":
            return JsonLinesReader(**shared, **columns)
        case "parquet":
            return ParquetReader(**shared, **columns)
        case "tmx":
            return TmxReader(**shared, languages=spec.languages)
        case "parallel":
            return ParallelReader(**shared, languages=spec.languages, delimiter=delimiter, quoted=spec.quoted)
    assert kind == "gettext"
    # One name for all: a message has the same id in the catalogues of all languages, which are other files.
    shared["member"] = "*"
    language = {"": _language_of(spec, path) or catalogue_language(path, spec.encoding)}
    return GettextReader(**shared, languages=language, originals=spec.originals or None)


def language_of(spec: TextSource, path: Path) -> str:
    """The language of texts of this file that name none."""
    return _language_of(spec, path) or "und"


def _language_of(spec: TextSource, path: Path) -> str:
    if spec.language_pattern:
        found = re.search(spec.language_pattern, path.as_posix())
        if found is None:
            raise DataError(f"{path}: language_pattern {spec.language_pattern!r} finds no language in this path")
        return found[1]
    return spec.language


def _is_read(path: Path, spec: TextSource) -> bool:
    kind = FORMAT_OF.get(plain_suffix(path))
    like_text = spec.format in ("lines", "documents") and kind == "lines"
    like_table = spec.format in ("table", "parallel") and kind == "table"
    return kind is not None and (spec.format in ("auto", kind) or like_text or like_table)
