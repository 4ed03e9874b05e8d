"""Data sets of the Hugging Face library: one that was saved to a folder, or one of the Hub, as a stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.cards.reader import ColumnReader
from toolkit.errors import DataError, FetchError
from toolkit.registry import nearest
from toolkit.text.sources.row import Row, cell, columns_of, require_columns

SAVED = ("dataset_dict.json", "state.json")
"""Files by which a folder that `save_to_disk` wrote is known: several splits, or one."""


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((folder / name).is_file() for name in SAVED)


def read_dataset(name: str, reader: ColumnReader, *, subset: str, split: str, revision: str) -> Iterator[Row]:
    """A row a row; from a folder it is mapped into memory, from the Hub it is streamed.

    Args:
        name: A folder that `save_to_disk` wrote, or a name on the Hub.
        reader: Which column is what.
        subset: Configuration of a data set of the Hub, if it has several.
        split: `train`, `test`, ...
        revision: Branch, tag or commit on the Hub.

    Raises:
        DataError: `datasets` is not installed, or the data set lacks the split or a column.
        FetchError: The Hub does not give it.
    """
    rows = _open(name, subset, split, revision)
    names = columns_of(reader)
    known = rows.column_names
    if known is not None:  # a stream may know its columns only from the first row
        require_columns(name, names.values(), known)
        rows = rows.select_columns(list(dict.fromkeys(names.values())))
    for number, record in enumerate(rows):
        if number == 0:
            require_columns(name, names.values(), list(record))
        yield Row(**{column: cell(record[key]) for column, key in names.items()})


def dataset_digest(name: str, *, subset: str, split: str, revision: str) -> str:
    """What identifies the rows that `read_dataset` gives: a fingerprint, or the commit on the Hub.

    Raises:
        FetchError: The Hub does not answer.
    """
    if Path(name).is_dir():
        return str(_open(name, subset, split, revision)._fingerprint)
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision or None).sha)
    except Exception as error:  # the library raises what its client raises, httpx's errors among it
        raise _not_fetched(name, error) from None


def _open(name: str, subset: str, split: str, revision: str) -> Any:
    datasets = _library()
    if not Path(name).is_dir():
        try:
            return datasets.load_dataset(name, subset or None, split=split, revision=revision or None, streaming=True)
        except Exception as error:
            raise _not_fetched(name, error) from None
    try:
        found = datasets.load_from_disk(name)
    except Exception as error:
        raise DataError(f"{name}: is not a folder of `save_to_disk`: {_first_line(error)}") from None
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(f"{name}: has no split {split!r}; {nearest(split, list(found))}")
        found = found[split]
    return found


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError("data sets of Hugging Face need the package datasets: pip install 'fewlabel[text]'") from None
    return datasets


def _not_fetched(name: str, error: Exception) -> FetchError:
    return FetchError(f"{name}: the Hub does not give it: {_first_line(error)}; check name, subset, split and network")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
