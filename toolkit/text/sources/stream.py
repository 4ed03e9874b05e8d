"""Opens a source: its rows one after another, as often as they are asked for, in bounded memory."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from toolkit.assets import list_assets
from toolkit.cards import DataCard, data_digest, fetch, load_card
from toolkit.cards.reader import ParquetReader
from toolkit.config import digest, validate
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.text.sources.hugging_face import dataset_digest, is_saved_dataset, read_dataset
from toolkit.text.sources.reading import read_card_rows, read_file
from toolkit.text.sources.row import Row, finished, with_pseudonyms
from toolkit.text.sources.spec import TextSource, as_values, files_of, language_of, reader_of
from toolkit.text.splitting import split_line

_SURROGATE = re.compile("[\ud800-\udfff]")
LONGEST_ROW = 100_000
"""Characters of a row; a longer text comes in several, so that none of them is ever large."""

Refuse = Callable[[Path, DataError], None]
"""Is told of a file that is not read and why, instead of an error that ends the pass."""


class RowStream:
    """The texts of a source, cleaned, without empty ones, and cut where they are too long to be one row.

    It may be gone through several times; each time files are read anew, and the counts begin anew.

    Attributes:
        name: What the source is called in logs; a file's name, not its path.
        by_language: After a pass, for each language: rows `read`; `empty` ones (no letter or digit); `cut` ones that
            were too long, and the `pieces` more that they gave; `mended` ones, whose lone surrogates, which no encoding
            has, became U+FFFD; and rows `given`.
        empty_files: After a pass, the files of a folder that have no row.
    """

    def __init__(
        self, name: str, rows: Callable[[], Iterable[Row]], empty_files: Collection[Path] = frozenset()
    ) -> None:
        self.name, self.empty_files = name, empty_files
        self.by_language: dict[str, Counter[str]] = {}
        self._rows = rows

    @property
    def counts(self) -> Counter[str]:
        """Counts of the last pass over all languages."""
        return sum(self.by_language.values(), Counter())

    def __iter__(self) -> Iterator[Row]:
        self.by_language = by_language = {}
        for row in self._rows():
            counts = by_language.get(row.language)
            if counts is None:
                counts = by_language[row.language] = Counter()
            counts["read"] += 1
            if not has_words(row.text):
                counts["empty"] += 1
                continue
            if not row.text.isascii() and _SURROGATE.search(row.text):
                row = row._replace(text=_SURROGATE.sub("\ufffd", row.text))
                counts["mended"] += 1
            if len(row.text) <= LONGEST_ROW:
                counts["given"] += 1
                yield row
                continue
            pieces = [piece for part in split_line(row.text, LONGEST_ROW) if (piece := part.strip())]
            counts.update({"cut": 1, "pieces": len(pieces) - 1, "given": len(pieces)})
            yield from (row._replace(text=piece) for piece in pieces)


def open_source(spec: str | TextSource | DataCard, *, refuse: Refuse | None = None) -> RowStream:
    """Opens texts wherever they lie.

    Groups that the data name become pseudonyms under this machine's key, as `read_corpus` makes them; a language that
    nothing names is "und". Repeats are not dropped here: see `toolkit.near_duplicates.RepeatFinder`.

    Args:
        spec: A `TextSource`, what its `path` may be, or a card.
        refuse: Is told of files of a folder or card that cannot be read; without it the first of them ends a pass.

    Returns:
        A stream of `Row`. Reading errors come when it is gone through.

    Raises:
        DataError: There is no such file, folder or card, or nothing in it is read.
        CardError: The card is wrong.
    """
    source = _resolved(spec)
    if isinstance(source, DataCard):
        return RowStream(source.name, lambda: _named_labels(source, read_card_rows(source, fetch(source), refuse)))
    if source.dataset:
        return RowStream(Path(source.dataset).name, lambda: _of_dataset(source))
    files, not_read = files_of(source)
    if not_read and refuse is None:
        suffixes = ", ".join(sorted({path.suffix or "no suffix" for path in not_read}))
        log.warning("%s: %d files are not read (%s)", Path(source.path).name, len(not_read), suffixes)
    empty: set[Path] = set()
    return RowStream(Path(source.path).name, lambda: _of_files(source, files, not_read, refuse, empty), empty)


def source_digest(spec: str | TextSource | DataCard) -> str:
    """16 hex digits that change when what `open_source(spec)` gives may change: the description or a file's bytes.

    Raises:
        DataError: See `open_source`.
        FetchError: The Hub does not say which commit a data set is at.
    """
    source = _resolved(spec)
    if isinstance(source, DataCard):
        return data_digest(source)
    known = [digest(source, exclude={"path", "dataset"})]
    if source.dataset:
        is_local = Path(source.dataset).is_dir()
        known += [
            "" if is_local else source.dataset,
            dataset_digest(source.dataset, subset=source.subset, split=source.split, revision=source.revision),
        ]
    else:
        root = Path(source.path).expanduser()
        for path in files_of(source)[0]:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            known += [path.relative_to(root if root.is_dir() else root.parent).as_posix(), content]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit, of any script, in `text`."""
    return any(map(str.isalnum, text))


def _resolved(spec: str | TextSource | DataCard) -> TextSource | DataCard:
    """The card that `spec` names, or a source of which it is known whether it is a data set's folder."""
    if isinstance(spec, DataCard):
        return spec
    source = spec if isinstance(spec, TextSource) else validate(as_values(spec), TextSource, "texts")
    if source.dataset:
        return source
    path = Path(source.path).expanduser()
    names = [asset.name for asset in list_assets("data_cards")]
    if path.suffix == ".md" or (source.path in names and not path.exists()):
        return load_card(source.path)
    if not path.exists():
        raise DataError(f"{path}: no such file, folder or data card; {nearest(source.path, names)}")
    if is_saved_dataset(path):
        return source.model_copy(update={"path": "", "dataset": str(path)})
    return source


def _of_files(
    source: TextSource, files: Iterable[Path], not_read: Iterable[Path], refuse: Refuse | None, empty: set[Path]
) -> Iterator[Row]:
    for path in not_read if refuse else ():
        refuse(path, DataError(f"{path}: {path.suffix or 'no suffix'} is not read"))
    name = Path(source.path).name.partition(".")[0]  # not each file's: a letter may be called as its patient
    for path in files:
        try:
            language, row = language_of(source, path), None
            for row in read_file(path, reader_of(source, path)):
                yield row._replace(language=row.language.strip() or language, source=row.source or name)
            if row is None:
                empty.add(path)
        except DataError as error:
            if refuse is None:
                raise
            refuse(path, error)


def _of_dataset(source: TextSource) -> Iterator[Row]:
    reader = ParquetReader(member="*", replace=source.replace, **({"text": "text"} | source.columns))
    rows = read_dataset(source.dataset, reader, subset=source.subset, split=source.split, revision=source.revision)
    name = Path(source.dataset).name
    for row in with_pseudonyms(finished(rows, reader)):
        yield row._replace(language=row.language.strip() or source.language or "und", source=row.source or name)


def _named_labels(card: DataCard, rows: Iterable[Row]) -> Iterator[Row]:
    names = [*card.class_names, ""]
    for row in rows:
        yield row._replace(label=names[card.label_of(row.label or None)])
