"""This process: its threads, on whose number floating-point sums depend, and its place among others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch
from accelerate import PartialState
from threadpoolctl import threadpool_limits


def set_num_threads(num_threads: int | None) -> int:
    """Gives PyTorch, numba and the BLAS libraries the same number of threads.

    Args:
        num_threads: How many; `None` takes every CPU that this process may use, or its share of them in a
            launch of several.

    Returns:
        How many were set.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = num_threads or max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(chosen)
    numba.set_num_threads(min(chosen, numba.config.NUMBA_NUM_THREADS))
    threadpool_limits(chosen)
    return chosen


def on_cpu() -> bool:
    """Whether there is no GPU or other accelerator."""
    return not torch.accelerator.is_available()


def is_main_process() -> bool:
    """Whether this is the process that writes, of those that `torchrun` or `accelerate launch` started."""
    return bool(PartialState(cpu=on_cpu()).is_main_process)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Lets the main process through before the others: what it prepares and stores, they find."""
    with PartialState(cpu=on_cpu()).main_process_first():
        yield
