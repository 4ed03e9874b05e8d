"""This process: its threads, on whose number floating-point sums depend, and its place among others."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numba
import torch
from accelerate import PartialState
from threadpoolctl import threadpool_limits

from toolkit.cores import num_cores
from toolkit.errors import ConfigError


def set_num_threads(num_threads: int | None) -> int:
    """Gives PyTorch, numba and the BLAS libraries the same number of threads.

    Args:
        num_threads: How many; `None` takes every CPU that this process may use, or its share of them in a
            launch of several.

    Returns:
        How many were set.
    """
    chosen = num_threads or max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(chosen)
    numba.set_num_threads(min(chosen, numba.config.NUMBA_NUM_THREADS))
    threadpool_limits(chosen)
    return chosen


def on_cpu() -> bool:
    """Whether there is no GPU or other accelerator."""
    return not torch.accelerator.is_available()


def peak_memory_gb() -> float:
    """The most that this process has had so far: of its GPU, or of resident memory where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def num_launched() -> int:
    """How many processes a launcher (torchrun, accelerate, Ray) started together; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


def refuse_several_processes(recipe: str) -> None:
    """For recipes that start processes of their own.

    Raises:
        ConfigError: A launcher started this one as one of several.
    """
    if num_launched() > 1:
        raise ConfigError(
            f"{recipe}: start it as one process; pretrain with torchrun first, and it takes up what is finished"
        )


def _state() -> PartialState:
    # Whoever waits for the main process to prepare the data waits longer than a step may take.
    return PartialState(cpu=on_cpu(), timeout=timedelta(hours=6))


def is_main_process() -> bool:
    """Whether this is the process that writes, of those that `torchrun` or `accelerate launch` started."""
    return bool(_state().is_main_process)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Lets the main process through before the others: what it prepares and stores, they find."""
    with _state().main_process_first():
        yield
