"""The cells of a study: which there are, what each one is computed from, and where its prediction is kept."""

import hashlib
import io
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import DiskError
from toolkit.files import write_atomically

FORMAT = "1"
"""Raise it when the same inputs would give other predictions: kept cells are then computed anew."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One method on one task with one draw of labels at one budget.

    Attributes:
        budget: Labels a class; None for a method that takes no labels, as are `draw` and `seed` then.
        labelled: Pool indices of the labelled samples.
        digest: Of all that the prediction depends on.
    """

    task: str
    method: str
    pretraining: str
    budget: int | None
    draw: int | None
    seed: int | None
    labelled: np.ndarray
    digest: str

    def path(self, folder: Path) -> Path:
        """Where the prediction is kept: the name holds the digest, so a stale one is never found.

        The task is in the digest alone: with its site a name could be longer than file systems allow.
        """
        labels = f"-{self.budget}-labels-draw-{self.draw}-seed-{self.seed}" if self.budget is not None else ""
        return folder / f"{self.method}{labels}-{self.digest}.npy".replace("/", "_")

    def save(self, folder: Path, probabilities: np.ndarray) -> None:
        """Keeps the prediction, (M, K) float32, all of it or nothing."""
        content = io.BytesIO()
        np.save(content, probabilities.astype(np.float32), allow_pickle=False)
        write_or_explain(self.path(folder), content.getvalue())

    def load(self, folder: Path) -> np.ndarray:
        """The prediction kept, (M, K)."""
        return np.load(self.path(folder), allow_pickle=False)


def cell_digest(*parts: Any) -> str:
    """16 hex digits of arrays and plain values."""
    hashed = hashlib.sha256(FORMAT.encode())
    for part in parts:
        hashed.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        hashed.update(b"\0")
    return hashed.hexdigest()[:16]


def write_or_explain(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}; free some space or give another folder, then run again") from None


class InProcess(Executor):
    """An executor without workers: `submit` computes at once."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> "Future[Any]":
        """A future that is done already."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future
