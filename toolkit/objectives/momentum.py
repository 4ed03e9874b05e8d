"""Momentum encoders: a slow copy of the networks in training, whose outputs are keys or targets."""

import copy
import math

import torch
from torch import Tensor, nn


class MomentumCopy(nn.Module):
    """An encoder and its head whose weights follow those in training (He et al. 2020, arXiv:1911.05722, equation 2).

    It starts as an exact copy, buffers included, and lies in the `state_dict` of its method, so that a resumed run goes
    on with it. Batch norms have statistics of their own, as in MoCo v3 and BYOL: over the batch of all processes.

    Args:
        encoder: In training, with `pooled`.
        head: The projector behind it.

    Memory and cost: the weights once more, without gradients and optimiser states, and a forward pass without a graph,
    about a third of what the views that it sees cost otherwise.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.head = copy.deepcopy(head)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Projections (B, D) of views, without a gradient."""
        projections: Tensor = self.head(self.encoder.pooled(self.encoder(views)))  # type: ignore[operator]
        return projections

    @torch.no_grad()
    def update(self, encoder: nn.Module, head: nn.Module, momentum: float) -> None:
        """Moves each weight to `momentum` times itself plus 1 - `momentum` times the one in training."""
        slow = [*self.encoder.parameters(), *self.head.parameters()]
        torch._foreach_lerp_(slow, [*encoder.parameters(), *head.parameters()], 1 - momentum)


def cosine_momentum(base: float, progress: float) -> float:
    """A momentum that rises from `base` to 1 along half a cosine (Grill et al. 2020, arXiv:2006.07733, section 3.2).

    At 1 the copy stands still: by then it is the average of many late weights.

    Args:
        base: At the start.
        progress: Share of the training that is done, from 0 to 1.
    """
    return 1 - (1 - base) * (1 + math.cos(math.pi * progress)) / 2
