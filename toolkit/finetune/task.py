"""A task to solve with few labels: a pool to label from, a test set of other subjects, and unlabelled
data."""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from toolkit.errors import DataError
from toolkit.splits import refuse_leakage

Inputs = list[str] | np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """One classification task in one leg.

    Inputs are texts, or float32 patches (N, C, I, J, K) that are normalised as the encoder expects them.

    Attributes:
        leg: Scans or text.
        name: What is told apart, such as "lobes" or "sentiment".
        language: Language of the texts; empty for scans.
        site: Where the test comes from; may be empty.
        pool: Samples that may be labelled.
        pool_labels: Their classes, (N,), 0 to K - 1.
        pool_groups: Their subjects or groups, (N,).
        test: Samples to be judged on.
        test_labels: Their classes, (M,).
        test_groups: Their subjects or groups, (M,); none of them is in the pool.
        class_names: K names.
        unlabelled: Samples without labels that pretraining saw and that baselines may learn from as well, so
            that they are not beaten for want of data.
        pool_positions: Millimetres in a common space, (N, 3), for the position reference; scans only.
        test_positions: The same for the test samples, (M, 3).

    Raises:
        DataError: A group on both sides, a class without samples in the pool, or an empty part.
    """

    leg: Literal["scans", "text"]
    name: str
    language: str
    site: str
    pool: Inputs
    pool_labels: np.ndarray
    pool_groups: np.ndarray
    test: Inputs
    test_labels: np.ndarray
    test_groups: np.ndarray
    class_names: tuple[str, ...]
    unlabelled: Inputs
    pool_positions: np.ndarray | None = None
    test_positions: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert len(self.pool) == len(self.pool_labels) == len(self.pool_groups)
        assert len(self.test) == len(self.test_labels) == len(self.test_groups)
        for part in ("pool", "test", "unlabelled"):
            if not len(getattr(self, part)):
                raise DataError(f"task {self.key}: its {part} data is empty")
        absent = [c for i, c in enumerate(self.class_names) if not np.any(self.pool_labels == i)]
        if absent:
            raise DataError(f"task {self.key}: no sample in the pool has the class {', '.join(absent)}")
        refuse_leakage(self.pool_groups.tolist(), self.test_groups.tolist())

    @property
    def key(self) -> str:
        """A name that tells the tasks of a study apart."""
        return "-".join(part for part in (self.leg, self.name, self.language, self.site) if part)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def thinned(self, indices: np.ndarray) -> "Task":
        """The same task with only the pool samples at `indices`."""
        return replace(
            self,
            pool=select(self.pool, indices),
            pool_labels=self.pool_labels[indices],
            pool_groups=self.pool_groups[indices],
            pool_positions=None if self.pool_positions is None else self.pool_positions[indices],
        )

    def digest(self) -> str:
        """16 hex digits of all that a method can learn from; the test labels are not part of it."""
        hashed = hashlib.sha256(repr((self.key, self.class_names)).encode())
        for part in (self.pool, self.test, self.unlabelled):
            _add(hashed, part)
        for array in (self.pool_labels, self.pool_positions, self.test_positions):
            if array is not None:
                _add(hashed, array)
        return hashed.hexdigest()[:16]


def select(inputs: Inputs, indices: np.ndarray) -> Inputs:
    """The samples at `indices`; a list stays a list."""
    return [inputs[i] for i in indices] if isinstance(inputs, list) else inputs[indices]


def _add(hashed: "hashlib._Hash", part: Inputs) -> None:
    if isinstance(part, list):
        for text in part:
            hashed.update(text.encode("utf-8", "surrogatepass") + b"\0")
    else:
        hashed.update(repr((part.shape, part.dtype.str)).encode())
        hashed.update(np.ascontiguousarray(part).data)
