"""Runs a function in several processes that train together, as torchrun would start them."""

import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_together(num_processes: int, function: Callable[..., None], *args: Any) -> None:
    """Calls `function(*args)` in each process; raises when one of them does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_process, (num_processes, port, function, args), nprocs=num_processes)


def _process(rank: int, num_processes: int, port: int, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    torch.set_num_threads(1)
    try:
        function(*args)
    except BaseException:
        traceback.print_exc()  # what mp.spawn shows may be another process's
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
