"""What the loop knows of a method and of its data: one step's loss, and batches by number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What a method's `forward` returns.

    The loop divides by the *global* count, so that accumulation and several processes do not change the loss.
    """

    loss_sum: Tensor
    """Scalar: the loss summed over the batch's items."""
    count: Tensor | int
    """How many items were summed (samples, or masked tokens)."""
    logs: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Scalars for metrics.jsonl."""
    embeddings: Tensor | None = None
    """`(N, D)` embeddings, where the method can collapse; the loop logs their spread and rank."""


class Batches(Protocol):
    """Training data as a pure function of the step, so that a resumed run sees what it would have seen."""

    def batch(self, step: int) -> Any:
        """The batch of step `step`, counted from 0; any step may be asked for, in any order."""
        ...


class BatchesByStep(torch.utils.data.Dataset[Any]):
    """A `Batches` as a torch data set whose items are whole batches, so that DataLoader workers can prefetch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Any:
        return self.batches.batch(step)
