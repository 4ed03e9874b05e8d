"""Batches on their way to the device: cut into shards, prepared ahead, timed."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from toolkit.errors import ConfigError, TrainingError
from toolkit.training.config import TrainingConfig
from toolkit.training.step import Batches, ShardDataset, Shards

POLL_S = 5.0


@dataclass(frozen=True)
class Layout:
    """How a global batch is cut: by process, then by what goes through the network at once.

    Attributes:
        num_shards: Parts of all processes together.
        mine: This process's parts.
    """

    num_shards: int
    mine: range

    @classmethod
    def of(cls, batch_size: int, micro_batch_size: int | None, rank: int = 0, world_size: int = 1) -> "Layout":
        """The layout of one process.

        Raises:
            ConfigError: The batch cannot be shared out evenly.
        """
        if batch_size % world_size:
            raise ConfigError(f"training.batch_size {batch_size} is not a multiple of the {world_size} processes")
        share = batch_size // world_size
        micro = min(micro_batch_size or share, share)
        if share % micro:
            raise ConfigError(
                f"training.micro_batch_size {micro} does not divide the {share} samples that each of {world_size} "
                "processes gets of training.batch_size"
            )
        return cls(batch_size // micro, range(rank * (share // micro), (rank + 1) * (share // micro)))


class Feed:
    """An endless row of (shard, batch on the device), and how long the loop waited for it.

    Args:
        batches: The data.
        config: Workers and their patience.
        num_steps: Where the run ends.
        device: Where batches go.

    Attributes:
        waited_s: Seconds that `next` has taken since the start.
    """

    def __init__(self, batches: Batches, config: TrainingConfig, num_steps: int, device: torch.device) -> None:
        self._batches, self._config, self._num_steps, self._device = batches, config, num_steps, device
        self.waited_s = 0.0
        self._mask: torch.Tensor | None = None

    def start(self, step: int, layout: Layout, passes: int) -> None:
        """Begins at the first shard of `step`, whatever was under way."""
        workers = self._config.num_workers
        loader = DataLoader(
            ShardDataset(self._batches),
            batch_size=None,
            sampler=Shards(range(step, self._num_steps), layout.mine, layout.num_shards, passes),
            num_workers=workers,
            timeout=POLL_S if workers else 0,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_main_process,
        )
        with _deaths_are_told_by_next():
            self._items = iter(loader)

    @property
    def padding(self) -> float | None:
        """Share of the last batch that is padding; None where nothing is padded."""
        return None if self._mask is None else 1 - self._mask.float().mean().item()

    def next(self) -> tuple[int, Any]:
        """The next shard's number and batch.

        Raises:
            TrainingError: A worker died or gave nothing for too long.
        """
        started = time.monotonic()
        try:
            shard, batch = self._patient_next(started)
        except (RuntimeError, ConnectionError, EOFError) as error:  # the latter where what it had sent died with it
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if isinstance(error, RuntimeError) and not ("DataLoader" in reason or "memory thread" in reason):
                raise
            raise TrainingError(
                f"a process that prepares batches died or hung ({reason}); mostly it is out of "
                "memory: lower training.num_workers, or raise training.worker_timeout_s if the data are merely slow"
            ) from None
        batch = send_to_device(batch, self._device, non_blocking=True)
        if self._device.type != "cuda" or torch.cuda.current_stream().query():  # else the GPU has work left
            self.waited_s += time.monotonic() - started
        if hasattr(self._batches, "finish"):
            batch = self._batches.finish(batch)
        self._mask = batch.get("attention_mask") if isinstance(batch, dict) else None
        return shard, batch

    def _patient_next(self, started: float) -> tuple[int, Any]:
        """torch looks whether workers live only when its timeout is over, so that one is short, and asked again."""
        while True:
            try:
                return next(self._items)
            except RuntimeError as error:
                patience = self._config.worker_timeout_s
                if "timed out" not in str(error) or (patience and time.monotonic() - started > patience):
                    raise


def _leave_signals_to_the_main_process(worker: int) -> None:
    """A terminal's Ctrl-C and a scheduler's warning reach all processes; the main one still needs its batches then."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _deaths_are_told_by_next() -> Iterator[None]:
    """Undoes the handler that torch sets, which raises wherever the main thread is when a worker dies.

    `next` asks every few seconds whether they live, which is soon enough.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
