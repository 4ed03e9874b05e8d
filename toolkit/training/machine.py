"""Threads of this process. Floating-point sums depend on their number, so a run records it."""

import os

import numba
import torch
from threadpoolctl import threadpool_limits


def set_num_threads(num_threads: int | None) -> int:
    """Gives PyTorch, numba and the BLAS libraries the same number of threads.

    Args:
        num_threads: How many; `None` takes every CPU that this process may use.

    Returns:
        How many were set.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = num_threads or available
    torch.set_num_threads(chosen)
    numba.set_num_threads(min(chosen, numba.config.NUMBA_NUM_THREADS))
    threadpool_limits(chosen)
    return chosen
