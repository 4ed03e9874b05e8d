"""The encoder of MONAI's SegResNet (Myronenko 2018, arXiv:1810.11654)."""

from typing import ClassVar, Literal, Self

import torch
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from toolkit.encoders.networks.base import NetworkConfig, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig, ConvolutionalNetwork
from toolkit.encoders.networks.norms import Norm, replace_batch_norms
from toolkit.encoders.networks.thick_slices import flatten

NUM_GROUPS = 8


class SegResNetConfig(ConvolutionalConfig):
    """Shape of the network."""

    name: Literal["segresnet"] = "segresnet"
    """The network."""
    width: int = Field(16, gt=0)
    """Channels of the first stage; each later one has twice as many. A multiple of 8 with norm: group."""
    blocks: tuple[PositiveInt, ...] = Field((1, 2, 2, 4), min_length=1)
    """Residual blocks of each stage. All stages but the first halve the resolution."""
    norm: Norm = "group"
    """Group norm, of 8 groups, is the published one. It and instance norm do not depend on the batch, so gradient
    caching can use them."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        return (1, 1, *[2] * (len(self.blocks) - 1))

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.norm == "group" and self.width % NUM_GROUPS:
            raise ValueError(f"width: {self.width} is no multiple of {NUM_GROUPS}, which norm: group needs")
        return self


@register("segresnet")
class SegResNet(ConvolutionalNetwork):
    """The encoder of MONAI's SegResNet, at full resolution from the first stage on: a map a stage."""

    Config: ClassVar[type[NetworkConfig]] = SegResNetConfig

    def __init__(self, config: SegResNetConfig) -> None:
        net = MonaiSegResNet(
            in_channels=config.in_channels,
            init_filters=config.width,
            blocks_down=config.blocks,
            blocks_up=(1,) * (len(config.blocks) - 1),
            norm=("group", {"num_groups": NUM_GROUPS}) if config.norm == "group" else "batch",
        )
        super().__init__(config, [config.width * 2**stage for stage in range(len(config.blocks))])
        self.convInit, self.down_layers = net.convInit, net.down_layers
        if config.norm == "instance":
            replace_batch_norms(self, config.norm)
        for part, step in zip([self.convInit, *self._stages()], config.steps, strict=True):
            flatten(part, step)
        self.to(memory_format=torch.channels_last_3d)

    def _stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage."""
        return self.convInit(x)

    def _stages(self) -> list[nn.Module]:
        """Fine to coarse."""
        return list(self.down_layers)
