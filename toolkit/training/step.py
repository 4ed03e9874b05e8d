"""What the loop knows of a method and of its data: one step's loss, and batches by number."""

from collections.abc import Iterator, Mapping
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
    """Training data as a pure function of the step, so that a resumed run sees what it would have seen.

    May also have `samples_per_epoch: int`, for budgets in epochs; `num_tokens(step) -> int`, for budgets in tokens; and
    `sample_ids(step, shard, num_shards) -> list[int]`, numbers by which a sample that broke a run is found again. What
    the device does better is left to `finish(prepared)`, which gets there what `prepare(step, shard, num_shards)` gave:
    the loop calls these two instead of `batch`, which is one after the other.
    """

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        """A part of the batch of step `step`, counted from 0; any step may be asked for, in any order.

        Args:
            step: Which global batch.
            shard: Which of its parts.
            num_shards: In how many equal, consecutive parts it is cut.
        """
        ...


@dataclass(frozen=True)
class Shards(torch.utils.data.Sampler[tuple[int, int, int]]):
    """The parts of the global batches that one process works on, in order: (step, shard, num_shards).

    Attributes:
        steps: Which global batches.
        mine: The process's parts of each of them.
        num_shards: Parts of all processes.
        passes: How often the parts of one batch follow each other: gradient caching sees them twice.
    """

    steps: range
    mine: range
    num_shards: int
    passes: int = 1

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for step in self.steps:
            for _ in range(self.passes):
                for shard in self.mine:
                    yield step, shard, self.num_shards

    def __len__(self) -> int:
        return len(self.steps) * len(self.mine) * self.passes


class ShardDataset(torch.utils.data.Dataset[Any]):
    """A `Batches` as a torch data set whose items are (shard, batch), so that DataLoader workers can prefetch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[int, Any]:
        return key[1], getattr(self.batches, "prepare", self.batches.batch)(*key)
