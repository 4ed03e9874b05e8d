"""Reads the members of a data card, or a user's own table, into a `Corpus`."""

import csv
import hashlib
import html
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from toolkit.cards.card import DataCard
from toolkit.cards.pseudonyms import pseudonym, pseudonym_key
from toolkit.cards.reader import (
    ColumnReader,
    GettextReader,
    JsonLinesReader,
    LinesReader,
    ParquetReader,
    SqliteReader,
    TableReader,
    TextReader,
    VolumeReader,
)
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.text.corpus import COLUMNS, NO_LABEL, Corpus, build_corpus
from toolkit.text.parallel import read_messages

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


def read_corpus(card: DataCard, folder: Path) -> Corpus:
    """Reads what a card describes.

    Labels become class ids by the card's `label_map`. Groups become pseudonyms under this machine's key, whatever
    the card is called; messages of a catalogue name nobody and keep a plain digest. An empty language is the card's
    only one, else "und". Repeats and contradictions are dropped; near repeats too, unless the texts have no labels
    (translation catalogues repeat on purpose).

    Args:
        card: The card.
        folder: Its verified data, as `toolkit.cards.fetch` returns it.

    Raises:
        DataError: A file, table or column is missing, a line is broken, a language is not on the card, or no
            text is left.
    """
    frames = []
    for reader in card.reader:
        if isinstance(reader, VolumeReader):
            raise DataError(f"{card.path}: reader.format: a volume is not text; use this card in the scan leg")
        if isinstance(reader, GettextReader):
            frames += [_gettext(reader, Path(folder))]
        else:
            frames += [_with_pseudonyms(_read_member(reader, path)) for path in _members(card, reader, Path(folder))]
    rows = pd.concat(frames, ignore_index=True)
    rows["language"] = _languages(rows["language"], card)
    by_value = {value: card.label_of(value or None) for value in rows["label"].unique()}
    rows["label"] = rows["label"].map(by_value).astype(int)
    rows["source"] = rows["source"].where(rows["source"] != "", card.name)
    return build_corpus(rows, origin=card.name, class_names=card.class_names, near=0.8 if card.label_map else 1.0)


def read_table(
    path: str | Path,
    text: str = "text",
    *,
    label: str | None = None,
    language: str | None = None,
    group: str | None = None,
    source: str | None = None,
    default_language: str = "und",
) -> Corpus:
    """Reads a user's table of texts: `.csv`, `.tsv`, `.jsonl` or `.parquet`.

    Args:
        path: The file.
        text: Column of the texts.
        label: Column of the labels, if any; an empty cell is a text without label.
        language: Column of the languages, if any.
        group: Column of what must not straddle a split, if any: a person, a document. The same pseudonyms are made
            of it as `read_corpus` makes.
        source: Column of the domain or site, if any.
        default_language: Language where there is no column of it; "und" is ISO's code for undetermined.

    Returns:
        The corpus; classes are the distinct labels in alphabetical order.

    Raises:
        DataError: The file cannot be read, lacks a column (the message has the nearest), or holds no text.
    """
    path = Path(path)
    columns = {"text": text, "label": label, "language": language, "group": group, "source": source}
    columns = {name: column for name, column in columns.items() if column}
    if path.suffix == ".parquet":
        rows = _pick(_parquet(path), columns, path)
    elif path.suffix in (".jsonl", ".ndjson"):
        rows = _pick(_json_lines(path, "utf-8"), columns, path)
    elif path.suffix in DELIMITERS:
        rows = _pick(
            _delimited(path, TableReader(member=path.name, text=text, delimiter=DELIMITERS[path.suffix])),
            columns,
            path,
        )
    else:
        raise DataError(f"{path}: {path.suffix or 'no suffix'} is not read; use .csv, .tsv, .jsonl or .parquet")
    rows = _with_pseudonyms(rows)
    class_names = sorted(set(rows["label"]) - {""})
    ids = {name: index for index, name in enumerate(class_names)}
    rows["label"] = [ids.get(value, NO_LABEL) for value in rows["label"]]
    rows["language"] = rows["language"].where(rows["language"] != "", default_language)
    rows["source"] = rows["source"].where(rows["source"] != "", path.stem)
    return build_corpus(rows, origin=path.name, class_names=class_names)


def _members(card: DataCard, reader: TextReader, folder: Path) -> list[Path]:
    found = sorted(folder.glob(reader.member))
    if not found:
        raise DataError(f"{folder}: has no {reader.member!r}; run `fewlabel data verify {card.name}`")
    return found


def _read_member(reader: TextReader, path: Path) -> pd.DataFrame:
    if isinstance(reader, LinesReader):
        lines = _text_of(path, reader.encoding).splitlines()
        rows = pd.DataFrame({"text": lines}, dtype=object)
        return _finished(rows, reader)
    assert isinstance(reader, ColumnReader)
    columns = {name: getattr(reader, name) for name in COLUMNS if getattr(reader, name)}
    if isinstance(reader, TableReader):
        table = _delimited(path, reader)
    elif isinstance(reader, JsonLinesReader):
        table = _json_lines(path, reader.encoding)
    elif isinstance(reader, ParquetReader):
        table = _parquet(path)
    else:
        assert isinstance(reader, SqliteReader)
        table = _sqlite(path, reader.table)
    rows = _pick(table, columns, path)
    if reader.group_pattern:
        rows["group"] = rows["group"].str.extract(reader.group_pattern, expand=False).fillna("")
    return _finished(rows, reader)


def _finished(rows: pd.DataFrame, reader: TextReader) -> pd.DataFrame:
    """All columns there, constants filled in, texts cleaned as the reader says."""
    rows = rows.reindex(columns=list(COLUMNS), fill_value="")
    for column, value in reader.constants.items():
        rows[column] = value
    rows["text"] = [_clean(text, reader) for text in rows["text"]]
    return rows


def _clean(text: str, reader: TextReader) -> str:
    if reader.unescape_html:
        text = html.unescape(text)
    for pattern, replacement in reader.replace.items():
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())


def _gettext(reader: GettextReader, folder: Path) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    before, _, after = reader.member.rpartition("*")
    for part, language in reader.languages.items():
        # Only the last star is the language; others go over folders, not all of which need have every
        # language.
        paths = sorted(folder.glob(f"{before}{part}{after}"))
        if not paths:
            raise DataError(f"{folder}: has no {before}{part}{after}; check reader.languages of the card")
        for message in (message for path in paths for message in read_messages(path, reader.encoding)):
            group = hashlib.sha256(f"{reader.member}\0{message.key}".encode()).hexdigest()[:16]
            rows.append({"text": message.translation, "language": language, "group": group})
            if reader.originals and group not in seen:
                seen.add(group)
                rows.append({"text": message.original, "language": reader.originals, "group": group})
    return _finished(pd.DataFrame(rows, columns=["text", "language", "group"], dtype=object), reader)


def _pick(table: pd.DataFrame, columns: dict[str, str], path: Path) -> pd.DataFrame:
    for column in columns.values():
        if column not in table.columns:
            known = list(map(str, table.columns))
            raise DataError(f"{path}: has no column {column!r}; {nearest(column, known)}")
    picked = pd.DataFrame({name: table[column] for name, column in columns.items()}, dtype=object)
    return picked.fillna("").astype(str).reindex(columns=list(COLUMNS), fill_value="")


def _delimited(path: Path, reader: TableReader) -> pd.DataFrame:
    _must_exist(path)
    try:
        return pd.read_csv(
            path,
            sep=reader.delimiter,
            header=0 if reader.header_rows else None,
            names=list(reader.columns) or None,
            skiprows=range(1, reader.header_rows),
            quoting=csv.QUOTE_MINIMAL if reader.quoted else csv.QUOTE_NONE,
            dtype=str,
            keep_default_na=False,
            encoding=reader.encoding,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a table: {str(error).strip()}") from None


def _json_lines(path: Path, encoding: str) -> pd.DataFrame:
    objects = []
    for number, line in enumerate(_text_of(path, encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: is not JSON: {error.msg} at column {error.colno}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: must hold an object in braces")
        objects.append(value)
    if not objects:
        raise DataError(f"{path}: the corpus is empty")
    return pd.DataFrame(objects, dtype=object)


def _parquet(path: Path) -> pd.DataFrame:
    _must_exist(path)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not a Parquet file: {str(error).splitlines()[0]}") from None


def _sqlite(path: Path, table: str) -> pd.DataFrame:
    _must_exist(path)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if table not in names:
                raise DataError(f"{path}: has no table {table!r}; {nearest(table, names)}")
            return pd.read_sql_query(f'SELECT * FROM "{table}"', connection, dtype=object)
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: is not an SQLite file: {error}") from None


def _languages(values: pd.Series, card: DataCard) -> pd.Series:
    values = values.str.strip()
    blank = values == ""
    if blank.any() and len(card.languages) != 1 and "und" not in card.languages:
        raise DataError(f"{card.path}: {blank.sum()} texts have no language; add und to language for them")
    values = values.mask(blank, card.languages[0] if len(card.languages) == 1 else "und")
    for language in values.unique():
        if language not in card.languages:
            raise DataError(
                f"{card.path}: language {language!r} of the data is unknown; {nearest(language, list(card.languages))}"
            )
    return values


def _text_of(path: Path, encoding: str) -> str:
    _must_exist(path)
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not {encoding}: {error.reason} at byte {error.start}") from None


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file")


def _with_pseudonyms(rows: pd.DataFrame) -> pd.DataFrame:
    """Group 7 of one source that the data name is not group 7 of another."""
    named = rows["group"] != ""
    if not named.any():
        return rows
    key = pseudonym_key()
    pairs = zip(rows["source"][named], rows["group"][named], strict=True)
    rows.loc[named, "group"] = [pseudonym(key, source, group) for source, group in pairs]
    return rows
