"""What convolutional networks share: a stem and stages of one map each, a choice of norms, thick slices."""

from collections.abc import Sequence
from contextlib import nullcontext
from math import prod
from typing import ClassVar, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor, nn

from toolkit.encoders.networks.base import Family, Network, NetworkConfig, Triple
from toolkit.encoders.networks.norms import Norm
from toolkit.encoders.networks.thick_slices import Step, plan, whole_stride


class ConvolutionalConfig(NetworkConfig):
    """A stem and stages."""

    pooled_stages: tuple[int, ...] = ()
    """Stages, from 1, whose spatial means make up the embedding; the last one when empty."""
    norm: Norm = "batch"
    """Group norm (Wu & He 2018, arXiv:1803.08494) does not depend on the batch, so gradient caching can use it; 8
    groups, fewer in thin stages. Instance norm is one group a channel."""
    voxel_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """For thick slices: the same as `preprocessing.spacing_mm`. Kernels and strides are then 1 along sides of voxels
    that are twice as long as others, until these have grown to them (nnU-Net's rule). Empty: all axes alike."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        raise NotImplementedError

    @property
    def steps(self) -> list[Step]:
        """The stem's and each stage's kernels and strides along each axis."""
        return plan(self.voxel_mm, self.strides)

    @property
    def min_sides(self) -> Triple:
        """More than half of a cell of the coarsest map: beyond that, a map shows more padding than scan."""
        i, j, k = (side // 2 + 1 for side in whole_stride(self.steps))
        return i, j, k

    def cells(self, sides: Sequence[int]) -> Triple:
        """Sides of the coarsest map of a patch."""
        i, j, k = (-(-side // stride) for side, stride in zip(sides, whole_stride(self.steps), strict=True))
        return i, j, k

    def fits(self, sides: Sequence[int]) -> bool:
        """Whether it takes patches of these sides; instance norm needs more than one voxel."""
        return super().fits(sides) and not self._leaves_nothing(sides)

    def refusal(self, sides: Sequence[int]) -> str:
        """Why patches of these sides do not fit, in one clause; empty where they do."""
        if super().fits(sides) and self._leaves_nothing(sides):
            return (
                "norm: instance leaves nothing of a last stage of one voxel; give patch_size from "
                f"{self.min_side}, or norm: group"
            )
        return super().refusal(sides)

    def _leaves_nothing(self, sides: Sequence[int]) -> bool:
        return self.norm == "instance" and prod(self.cells(sides)) == 1

    @model_validator(mode="after")
    def _stages_exist(self) -> Self:
        num_stages = len(self.strides) - 1
        if wrong := [stage for stage in self.pooled_stages if not 1 <= stage <= num_stages]:
            raise ValueError(f"pooled_stages: no stage {wrong[0]}; {self.name} has 1 to {num_stages}")
        return self


class ConvolutionalNetwork(Network):
    """Base of networks of a stem and stages, each of which gives a map.

    Args:
        config: Its section.
        channels: Of each stage's map.
    """

    family: ClassVar[Family] = "cnn"

    def __init__(self, config: ConvolutionalConfig, channels: Sequence[int]) -> None:
        pooled = [stage - 1 for stage in config.pooled_stages] or [-1]
        super().__init__(config, channels, whole_stride(config.steps), pooled)

    def _stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage."""
        raise NotImplementedError

    def _stages(self) -> Sequence[nn.Module]:
        """Fine to coarse."""
        raise NotImplementedError

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """A map of each stage, fine to coarse, each (B, its channels, i, j, k)."""
        x = self._stem(patches_BCIJK.to(memory_format=torch.channels_last_3d))
        features = []
        for stage in self._stages():
            # oneDNN's bfloat16 weight gradient of a 3^3 kernel over 2^3 voxels reads memory that nobody wrote
            # (torch 2.13, CPU). Stages that come down to so few voxels run in float32, which costs nothing.
            small = x.device.type == "cpu" and min(x.shape[2:]) <= 4
            with torch.autocast(x.device.type, enabled=False) if small else nullcontext():
                x = self._through(stage, x.to(torch.promote_types(x.dtype, torch.float32)) if small else x)
            features.append(x)
        return features
