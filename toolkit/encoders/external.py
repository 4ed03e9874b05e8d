"""Encoders that are not ours: a function by its name, or embeddings that were computed elsewhere.

`toolkit.load_encoder("my_ctfm:embed")` and `toolkit.load_encoder("embeddings.parquet")` open them.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.console import track
from toolkit.encoders import encoder_digest
from toolkit.encoders.checkpoints.files import file_digest
from toolkit.encoders.named import named_function
from toolkit.errors import ConfigError, DataError

COLUMNS = ("id", "embedding")
BATCH_SIZE = 64

Samples = Sequence[str] | np.ndarray
"""Texts, or patches (N, C, I, J, K)."""


class FunctionEncoder:
    """A function as an encoder: of anybody's model, with whatever it needs around it.

    It gets up to 64 samples at a time: patches (N, C, I, J, K), float32, with intensities of 0 to 1 as the study's
    preprocessing leaves them (for CT with `window`, HU follow from `window_hu`), axes towards right, anterior and
    superior; or a list of texts. It gives an array (N, D).

    Args:
        name: `module:function`; the module may lie in the working folder.
        weights: Files that the function reads, and folders of them.

    Attributes:
        digest: Of the module's source as it runs, of `weights`, and of the function's own attribute `digest` where it
            has one (a value, or a method that gives one), such as the revision of a model that a library keeps. A
            study keeps rows under it: what else the function depends on may change unseen.

    Raises:
        ConfigError: There is no such module or function, its `digest` is no plain value, or a file of weights is not
            there.
    """

    def __init__(self, name: str, weights: Sequence[Path] = ()) -> None:
        self.name = name
        read = list(map(_weights_digest, weights))
        self.function, self._code = named_function(name, read)
        parts = [name, self._code.digest, own_digest(self.function, name), *read]
        self.digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def __call__(self, x: Samples) -> Any:
        """What the function gives.

        Raises:
            ConfigError: Its module runs other code than when the encoder was opened.
        """
        if not self._code.is_current:
            raise ConfigError(f"{self.name}: its module was reloaded since the encoder was opened; open it again")
        return self.function(x)

    def embed(self, x: Samples) -> np.ndarray:
        """Embeddings (N, D), float32.

        Raises:
            DataError: The function gave another number of rows, values that are not finite, or rows of another length
                than before.
        """
        parts: list[np.ndarray] = []
        for start in track(range(0, len(x), BATCH_SIZE), f"embedding with {self.name}"):
            part = x[start : start + BATCH_SIZE]
            rows = checked_rows(self(part), len(part), self.name)
            if parts and rows.shape[1] != parts[0].shape[1]:
                raise DataError(
                    f"{self.name}: rows of {rows.shape[1]} numbers after rows of {parts[0].shape[1]}; give one length"
                )
            parts.append(rows)
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


class StoredEmbeddings:
    """Embeddings in a Parquet file as an encoder: a model that runs elsewhere, on samples that `write_samples` wrote.

    Args:
        path: A row a sample: `id` (see `sample_ids`) and `embedding`, a list of numbers of one length.

    Attributes:
        digest: Of the ids and the embeddings.

    Raises:
        DataError: The file cannot be read, lacks a column, has an id twice, rows of several lengths or values that are
            not finite.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            table = pq.read_table(self.path, columns=list(COLUMNS))
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:150]
            raise DataError(
                f"{path}: cannot be read ({reason}); give a Parquet file with the columns {' and '.join(COLUMNS)}"
            ) from None
        ids = table["id"].cast(pa.string()).to_pylist()
        lengths = {-1 if row is None else len(row) for row in table["embedding"].to_pylist()}
        if len(lengths) > 1 or -1 in lengths:
            raise DataError(f"{path}: embedding: rows of several lengths ({_few(sorted(lengths))}); write one length")
        twice = sorted(name for name, times in Counter(ids).items() if times > 1)
        if twice:
            raise DataError(f"{path}: id: {len(twice)} come more than once ({_few(twice)}); write each once")
        self._rows = checked_rows(table["embedding"].to_pylist(), len(ids), str(path))
        self._places = {name: place for place, name in enumerate(ids)}
        self.digest = hashlib.sha256(repr(ids).encode() + self._rows.tobytes()).hexdigest()[:16]

    def embed(self, x: Samples) -> np.ndarray:
        """The rows of samples, (N, D), float32.

        Raises:
            DataError: A sample has no row.
        """
        ids = sample_ids(x)
        missing = sorted(set(ids) - self._places.keys())
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(set(ids))} samples have no row ({_few(missing)}); write the "
                "samples anew (write_samples) and embed all of them"
            )
        return self._rows[[self._places[name] for name in ids]]


def sample_ids(x: Samples) -> list[str]:
    """16 hex digits of each sample's content: a name that neither path nor person is in.

    Args:
        x: Texts, or patches (N, C, I, J, K), taken as float32.
    """
    if isinstance(x, np.ndarray):
        contents = (np.ascontiguousarray(patch, np.float32) for patch in x)
        return [hashlib.sha256(repr(patch.shape).encode() + patch.tobytes()).hexdigest()[:16] for patch in contents]
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] for text in x]


def own_digest(function: Any, name: str) -> str:
    """A function's attribute `digest`, or what it gives where it is a method; empty without one.

    Raises:
        ConfigError: It is no text and no number; other things may print as their address.
    """
    own = getattr(function, "digest", "")
    own = own() if callable(own) else own
    if not isinstance(own, str | int | float | bytes):
        raise ConfigError(f"{name}: its digest is a {type(own).__name__}; make it a text or a number")
    return str(own)


def checked_rows(rows: Any, num_samples: int, name: str) -> np.ndarray:
    """`rows` as float32 (num_samples, D).

    Raises:
        DataError: Another shape, or values that are not finite; `name` is in the message.
    """
    try:
        array = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: gave something that is no array of numbers ({error})") from None
    if array.ndim != 2 or len(array) != num_samples or not array.shape[1]:
        raise DataError(f"{name}: embeddings of shape {array.shape} where ({num_samples}, D) was expected")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(f"{name}: {len(bad)} embeddings with values that are not finite (rows {_few(bad.tolist())})")
    return array


def _weights_digest(path: Path) -> str:
    try:
        if path.is_dir() and not any(below.is_file() for below in path.rglob("*")):
            raise ConfigError(f"weights: {path}: holds no file; name the folder that the function reads")
        return encoder_digest(path) if path.is_dir() else file_digest(path)
    except OSError as error:
        raise ConfigError(f"weights: {path}: {error.strerror}; name files or folders that are there") from None


def _few(names: Sequence[Any], most: int = 3) -> str:
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
