"""Which norm a network has: MONAI's own argument does not reach all of its layers."""

from math import gcd
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Norm = Literal["batch", "group", "instance"]


def norm_layer(channels: int, norm: Norm) -> nn.Module:
    """A norm over maps (B, channels, i, j, k); instance norm is group norm of one group a channel.

    Group norm (Wu & He 2018, arXiv:1803.08494) has 8 groups, fewer in thin stages: each of at least two channels
    where there are two, for of one channel over one voxel a norm leaves nothing.
    """
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    return nn.GroupNorm(channels if norm == "instance" else max(1, gcd(16, channels) // 2), channels)


def replace_batch_norms(network: nn.Module, norm: Norm) -> None:
    """Puts `norm` in the place of each batch norm of `network`."""
    if norm == "batch":
        return
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                setattr(parent, name, norm_layer(layer.num_features, norm))
