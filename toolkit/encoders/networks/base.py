"""What every scan network is: maps of a patch from fine to coarse, their means as its embedding, and a name."""

from collections.abc import Sequence
from itertools import count
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.networks.recomputing import recomputed
from toolkit.errors import ConfigError
from toolkit.registry import Registry

Family = Literal["cnn", "vit", "swin"]
Triple = tuple[int, int, int]
Sides = PositiveInt | tuple[PositiveInt, PositiveInt, PositiveInt]
"""Voxels along each side: one number for a cube, or three."""


class NetworkConfig(Section):
    """Shape of a network; each family adds its own fields."""

    name: str
    """The network."""
    in_channels: int = Field(1, gt=0)
    """Channels of a scan."""
    patch_size: Sides = 24
    """Voxels along each side of the patches by which whole scans are embedded, one number or three: as large as those
    that it is trained on. It accepts others too."""

    @property
    def sides(self) -> Triple:
        """`patch_size` along each axis."""
        return triple(self.patch_size)

    @property
    def min_sides(self) -> Triple:
        """Voxels that a patch needs along each axis."""
        return (1, 1, 1)

    @property
    def multiples(self) -> Triple:
        """What a patch's sides must be multiples of."""
        return (1, 1, 1)

    @property
    def min_side(self) -> int:
        """Side of the smallest cube that fits."""
        return next(side for side in count(max(self.min_sides)) if self.fits((side, side, side)))

    @property
    def wanted(self) -> str:
        """Which patches fit, in words."""
        least = self.min_side if len(set(self.min_sides)) == 1 else self.min_sides
        steps = self.multiples[0] if len(set(self.multiples)) == 1 else self.multiples
        return f"sides from {least}" + (f" in multiples of {steps}" if max(self.multiples) > 1 else "")

    def fits(self, sides: Sequence[int]) -> bool:
        """Whether it takes patches of these sides."""
        needed = zip(sides, self.min_sides, self.multiples, strict=True)
        return all(side >= least and side % step == 0 for side, least, step in needed)

    def refusal(self, sides: Sequence[int]) -> str:
        """Why patches of these sides do not fit, in one clause; empty where they do."""
        return "" if self.fits(sides) else f"{self.name} takes {self.wanted}"

    def refuse(self, key: str, patch_size: Sides) -> None:
        """Raises a ConfigError that names `key` where patches of this size do not fit."""
        if reason := self.refusal(triple(patch_size)):
            raise ConfigError(f"{key}: {patch_size} does not fit the encoder: {reason}")

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if reason := self.refusal(self.sides):
            raise ValueError(f"patch_size {self.patch_size} does not fit: {reason}")
        return self


class Network(nn.Module):
    """Base of all scan networks: `forward` and the parts that it needs.

    Args:
        config: An instance of `Config`.
        channels: Of each map, fine to coarse.
        stride: Voxels of one cell of the coarsest map, along each axis.
        pooled_maps: Numbers of the maps whose means make up the embedding.

    Attributes:
        family: What kind of network it is; some methods need one kind.
        embed_dim: Length of an embedding.
    """

    Config: ClassVar[type[NetworkConfig]]
    """The network's section; its field `name` is a `Literal` of the registered name."""
    family: ClassVar[Family]

    def __init__(
        self, config: NetworkConfig, channels: Sequence[int], stride: Triple, pooled_maps: Sequence[int] = (-1,)
    ) -> None:
        super().__init__()
        self.config: Any = config
        self.channels, self.stride = tuple(channels), stride
        self.embed_dim = sum(channels[number] for number in pooled_maps)
        self._pooled_maps = tuple(pooled_maps)
        self._checkpointing = False

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse, each (B, its channels, i, j, k)."""
        raise NotImplementedError

    def pooled(self, features: list[Tensor]) -> Tensor:
        """Spatial means of the pooled maps side by side, (B, embed_dim)."""
        return torch.cat([features[number].mean(dim=(2, 3, 4)) for number in self._pooled_maps], dim=1)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Whether training forgets activations within stages and computes them again in the backward pass."""
        self._checkpointing = enabled

    def _through(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self._checkpointing and self.training and torch.is_grad_enabled():
            return recomputed(stage, x)
        return stage(x)


def triple(value: Sides) -> Triple:
    """One number or three as three."""
    return (value, value, value) if isinstance(value, int) else value


NETWORKS: Registry[Network] = Registry("network", "fewlabel.networks")
register = NETWORKS.register
