"""The rows of all processes in each process, with gradients: what losses that compare samples need."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if num_processes() > 1 else 0


def gather_rows(local: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; `local` itself where there is one process.

    Gradients follow the *sum* of the processes' losses: each process calls backward on its own loss, and a row of
    `local` gets what all of these losses ask of it. With losses that are means over a process's own items, gradients
    of parameters that are averaged over processes, as DistributedDataParallel does, are those of the mean over all
    items. Forward and backward wait for the other processes, so all of them must call both, in the same order.

    Args:
        local: (N, ...), of the same shape in every process.

    Returns:
        (num_processes * N, ...); this process's rows begin at `process_rank() * N`.
    """
    if num_processes() == 1:
        return local
    gathered: Tensor = _Gather.apply(local)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)  # autograd may give `grad` to others as well
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
