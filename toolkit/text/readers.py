"""Reads the members of a data card, or a user's own table, into a `Corpus`."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from toolkit.cards.card import DataCard
from toolkit.errors import DataError
from toolkit.text.corpus import COLUMNS, NO_LABEL, Corpus, build_corpus
from toolkit.text.sources.reading import read_card_rows, read_file
from toolkit.text.sources.row import Row
from toolkit.text.sources.spec import TextSource, files_of, reader_of


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
    rows = _frame(read_card_rows(card, Path(folder)))
    by_value = {value: card.label_of(value or None) for value in rows["label"].unique()}
    rows["label"] = rows["label"].map(by_value).astype(int)
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
    spec = TextSource.model_validate(
        {"path": str(path), "columns": {name: column for name, column in columns.items() if column}}
    )
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give one table")
    files_of(spec)  # refuses a suffix that is not read
    rows = _frame(read_file(path, reader_of(spec, path)))
    class_names = sorted(set(rows["label"]) - {""})
    ids = {name: index for index, name in enumerate(class_names)}
    rows["label"] = [ids.get(value, NO_LABEL) for value in rows["label"]]
    rows["language"] = rows["language"].where(rows["language"] != "", default_language)
    rows["source"] = rows["source"].where(rows["source"] != "", path.stem)
    return build_corpus(rows, origin=path.name, class_names=class_names)


def _frame(rows: Iterable[Row]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object)
