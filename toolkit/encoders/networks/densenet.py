"""MONAI's DenseNet121 (Huang et al. 2016, arXiv:1608.06993)."""

from collections.abc import Sequence
from math import ceil
from typing import ClassVar, Literal

import torch
from monai.networks.nets.densenet import DenseNet as MonaiDenseNet
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from toolkit.encoders.networks.base import NetworkConfig, Sides, Triple, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig, ConvolutionalNetwork
from toolkit.encoders.networks.norms import replace_batch_norms
from toolkit.encoders.networks.thick_slices import flatten


class DenseNetConfig(ConvolutionalConfig):
    """Shape of the network; that of DenseNet121 by default."""

    name: Literal["densenet"] = "densenet"
    """The network."""
    patch_size: Sides = 32
    """Voxels along each side of the patches by which whole scans are embedded, one number or three: as large as those
    that it is trained on. It accepts others too."""
    width: int = Field(64, gt=1)
    """Channels of the first convolution."""
    growth: int = Field(32, gt=0)
    """Channels that each layer adds."""
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (6, 12, 24, 16)
    """Layers of each stage."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        return (2, 2, 2, 2, 2)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each stage's map: half of the one before, and what the layers add."""
        found, channels = [], 2 * self.width
        for num_layers in self.layers:
            channels = channels // 2 + num_layers * self.growth
            found.append(channels)
        return tuple(found)

    @property
    def min_sides(self) -> Triple:
        """Voxels of which averages without padding leave one cell."""
        i, j, k = (first * (later - 1) + 1 for first, later in zip(*self._padded_and_not(), strict=True))
        return i, j, k

    def cells(self, sides: Sequence[int]) -> Triple:
        """Sides of the coarsest map of a patch."""
        padded, cut = self._padded_and_not()
        i, j, k = (ceil(n / first) // later for n, first, later in zip(sides, padded, cut, strict=True))
        return i, j, k

    def _padded_and_not(self) -> tuple[list[int], list[int]]:
        """Strides of the stem with its pooling, which round up, and of the averages between stages, which do not."""
        stem, pool, *averages = (step.stride for step in self.steps)
        cut = [a * b * c for a, b, c in zip(*averages, strict=True)]
        return [a * b for a, b in zip(stem, pool, strict=True)], cut


@register("densenet")
class DenseNet(ConvolutionalNetwork):
    """MONAI's DenseNet121, each layer of which sees all before it in its stage: four maps."""

    Config: ClassVar[type[NetworkConfig]] = DenseNetConfig

    def __init__(self, config: DenseNetConfig) -> None:
        net = MonaiDenseNet(
            3,
            config.in_channels,
            1,
            init_features=config.width,
            growth_rate=config.growth,
            block_config=config.layers,
        )
        super().__init__(config, config.channels)
        self.features: nn.Sequential = net.features
        replace_batch_norms(self, config.norm)
        stages = (
            ("pool0", "denseblock1"),
            ("transition1", "denseblock2"),
            ("transition2", "denseblock3"),
            ("transition3", "denseblock4", "norm5"),
        )
        # In a list, which registers nothing: `features` holds their layers already.
        self._parts: list[nn.Module] = [
            nn.Sequential(*(self.features.get_submodule(name) for name in names)) for names in stages
        ]
        self._parts[-1].append(nn.ReLU())  # type: ignore[operator]  # of the last norm, as before MONAI's classifier
        for part, step in zip([self.features.get_submodule("conv0"), *self._parts], config.steps, strict=True):
            flatten(part, step)
        self.to(memory_format=torch.channels_last_3d)

    def _stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage."""
        parts = self.features
        return parts.relu0(parts.norm0(parts.conv0(x)))

    def _stages(self) -> list[nn.Module]:
        """Fine to coarse."""
        return self._parts
