"""A convolutional network that sees some cells of a volume and nothing of the others (Tian et al. 2023).

Sparse convolution by masking (arXiv:2301.03580, section 3.1): what is hidden is zero at the input and after each
convolution and pooling, so that hidden cells stay empty at any depth, and norms take their statistics over what is
visible. It is done to the layers of a plain network for the time of a call; weights, buffers and `state_dict` are the
network's own.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from toolkit.errors import ConfigError


def masked_maps(encoder: nn.Module, volumes_BCIJK: Tensor, visible_B1ijk: Tensor) -> list[Tensor]:
    """Feature maps of the visible part of volumes, zero where all that a place covers is hidden.

    A place of a map coarser than the mask is visible where any of its cells is.

    Args:
        encoder: Convolutional; see `refuse_unmaskable`. It runs uncompiled.
        volumes_BCIJK: Values.
        visible_B1ijk: Bool, a grid of cells that parts the volume.

    Returns:
        As the encoder's `forward`. Where gradient checkpointing computes stages again, they are masked again
        (`toolkit.encoders.networks.recomputing`).
    """
    shown = volumes_BCIJK * visible_at(visible_B1ijk, volumes_BCIJK.shape[2:])
    with _Masked(encoder, visible_B1ijk):
        maps: list[Tensor] = encoder.forward(shown)  # not `encoder(...)`: a compiler may have taken it over
    return maps


def refuse_unmaskable(encoder: nn.Module) -> None:
    """Raises ConfigError where a norm's statistics cannot be those of what is visible."""
    for name, layer in encoder.named_modules():
        is_unknown = "Norm" in type(layer).__name__ and _rule(layer) is None and not list(layer.children())
        if is_unknown or (isinstance(layer, _InstanceNorm) and layer.track_running_stats):
            raise ConfigError(
                f"objective: masked convolution knows batch, group and instance norms, and {name} is a "
                f"{type(layer).__name__}; set encoder.norm: group, or take another encoder"
            )


def visible_at(visible_B1ijk: Tensor, sides: Sequence[int]) -> Tensor:
    """Where a map of these sides shows anything visible, (B, 1, *sides), bool."""
    grid = visible_B1ijk.float()
    if all(side % cells == 0 for side, cells in zip(sides, grid.shape[2:], strict=True)):
        return F.interpolate(grid, list(sides)).bool()  # the same as below, without its indices
    return F.adaptive_max_pool3d(grid, list(sides)).bool()


def masked_group_norm(
    x_BCIJK: Tensor, visible_B1IJK: Tensor, num_groups: int, weight_C: Tensor | None, bias_C: Tensor | None, eps: float
) -> Tensor:
    """Group norm with statistics over visible places; hidden ones become 0. One group a channel: instance norm."""
    wide = x_BCIJK.to(torch.promote_types(x_BCIJK.dtype, torch.float32)).unflatten(1, (num_groups, -1))
    visible = visible_B1IJK[:, None].to(wide)
    dims = (2, 3, 4, 5)
    count = visible.sum(dim=dims, keepdim=True) * wide.shape[2]
    centred = wide - (wide * visible).sum(dim=dims, keepdim=True) / count
    variance = (centred.square() * visible).sum(dim=dims, keepdim=True) / count
    out = (centred * (variance + eps).rsqrt()).flatten(1, 2)
    if weight_C is not None and bias_C is not None:
        out = out * weight_C.view(-1, 1, 1, 1) + bias_C.view(-1, 1, 1, 1)
    return (out * visible[:, 0]).to(x_BCIJK.dtype)


class _Masked:
    """While entered, the layers of a network work on what is visible."""

    def __init__(self, network: nn.Module, visible_B1ijk: Tensor) -> None:
        rules = ((layer, _rule(layer)) for layer in network.modules())
        self._layers = [(layer, rule) for layer, rule in rules if rule is not None]
        self._grid = visible_B1ijk
        self._found: dict[tuple[int, ...], tuple[Tensor, Tensor, bool]] = {}
        self._stood: list[tuple[nn.Module, Any]] = []

    def __enter__(self) -> None:
        self._stood = [(layer, layer.__dict__.get("forward")) for layer, _ in self._layers]
        for layer, rule in self._layers:
            layer.forward = partial(rule, layer, layer.forward, self)

    def __exit__(self, *_: object) -> None:
        for layer, forward in self._stood:
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward

    def visible(self, sides: Sequence[int]) -> Tensor:
        """Where a map of these sides shows anything visible, (B, 1, *sides), bool."""
        return self._at(sides)[0]

    def places(self, sides: Sequence[int]) -> Tensor:
        """The numbers of those places among all of the batch, int64."""
        return self._at(sides)[1]

    def is_even(self, sides: Sequence[int]) -> bool:
        """Whether each sample has as many of them."""
        return self._at(sides)[2]

    def _at(self, sides: Sequence[int]) -> tuple[Tensor, Tensor, bool]:
        """Once for all layers whose maps have these sides: each is a wait for a GPU."""
        if (key := tuple(sides)) not in self._found:
            visible = visible_at(self._grid, sides)
            counts = visible.flatten(1).sum(dim=1)
            places = visible.flatten().nonzero()[:, 0]
            self._found[key] = visible, places, bool((counts == counts[0]).all())
        return self._found[key]


def _rule(layer: nn.Module) -> Callable[..., Tensor] | None:
    """What a layer does instead, as a function of itself, its own forward, the mode and its input."""
    if isinstance(layer, nn.Conv3d | nn.MaxPool3d | nn.AvgPool3d):
        return _hide
    return _norm if isinstance(layer, _BatchNorm | nn.GroupNorm | _InstanceNorm) else None


def _hide(layer: nn.Module, forward: Callable[..., Tensor], mode: _Masked, x: Tensor) -> Tensor:
    out = forward(x)
    return out.mul_(mode.visible(out.shape[2:]))


def _norm(layer: Any, forward: Callable[..., Tensor], mode: _Masked, x: Tensor) -> Tensor:
    """The layer's own forward, of visible places alone: so its statistics, running and synchronised ones too, are its
    own, and the memory is that of what is visible."""
    b, c, *sides = x.shape
    places, is_batch_norm = mode.places(x.shape[2:]), isinstance(layer, _BatchNorm)
    if not is_batch_norm and not mode.is_even(x.shape[2:]):
        num_groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else c
        return masked_group_norm(x, mode.visible(x.shape[2:]), num_groups, layer.weight, layer.bias, layer.eps)
    rows_MC = x.permute(0, 2, 3, 4, 1).reshape(-1, c).index_select(0, places)
    samples = rows_MC[:, :, None] if is_batch_norm else rows_MC.view(b, -1, c).transpose(1, 2)
    normed = forward(samples[..., None, None])[..., 0, 0]
    normed_MC = normed.transpose(1, 2).reshape(-1, c)
    out = normed_MC.new_zeros(b * prod(sides), c).index_copy(0, places, normed_MC)
    return out.view(b, *sides, c).permute(0, 4, 1, 2, 3)
