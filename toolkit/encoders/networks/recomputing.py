"""Gradient checkpointing: a stage's activations are computed again instead of kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Replaced = Sequence[tuple[nn.Module, Callable[..., Tensor]]]
"""Layers, and what stands in for their `forward`."""


@torch.compiler.disable(recursive=False)  # the compiler takes `context_fn` for something else, and gradients fail
def recomputed(stage: nn.Module, x: Tensor) -> Tensor:
    """`stage(x)`, of which only `x` is kept for the backward pass."""
    return checkpoint(stage, x, use_reentrant=False, context_fn=partial(_recomputing, stage))


def _recomputing(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a stage's first computation and of its second."""
    replaced = [(layer, layer.__dict__["forward"]) for layer in stage.modules() if "forward" in layer.__dict__]
    return nullcontext(), _as_the_first_time(stage, replaced)


@contextmanager
def _as_the_first_time(stage: nn.Module, replaced: Replaced) -> Iterator[None]:
    """Layers whose `forward` something else stood in for, such as a masked one, have it again.

    Batch norms see the same batch a second time, which must not count twice: it goes into copies, then dropped.
    """
    norms = [layer for layer in stage.modules() if isinstance(layer, _BatchNorm)]
    kept = [(layer, name, buffer) for layer in norms for name, buffer in layer.named_buffers(recurse=False)]
    for layer, name, buffer in kept:
        setattr(layer, name, buffer.clone())
    standing = [(layer, layer.__dict__.get("forward")) for layer, _ in replaced]
    for layer, forward in replaced:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, name, buffer in kept:
            setattr(layer, name, buffer)
        for layer, own in standing:
            if own is None:
                del layer.forward
            else:
                layer.forward = own
