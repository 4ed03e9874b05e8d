"""The encoder of MONAI's SegResNetDS (Myronenko 2018, arXiv:1810.11654), which CT-FM pretrains (arXiv:2501.09001)."""

from typing import ClassVar, Literal

import torch
from monai.networks.nets.segresnet_ds import SegResEncoder
from pydantic import Field
from torch import Tensor, nn

from toolkit.encoders.networks.base import NetworkConfig, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig, ConvolutionalNetwork
from toolkit.encoders.networks.norms import replace_batch_norms
from toolkit.encoders.networks.thick_slices import flatten


class SegResNetDSConfig(ConvolutionalConfig):
    """Shape of the network; CT-FM's has blocks [1, 2, 2, 4, 4]."""

    name: Literal["segresnet_ds"] = "segresnet_ds"
    """The network."""
    width: int = Field(32, gt=0)
    """Channels of the first stage; each later one has twice as many."""
    blocks: tuple[int, ...] = Field((1, 2, 2, 4), min_length=1)
    """Residual blocks of each stage. All stages but the first halve the resolution."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        return (1, 1, *[2] * (len(self.blocks) - 1))


@register("segresnet_ds")
class SegResNetDS(ConvolutionalNetwork):
    """The encoder of MONAI's SegResNetDS, at full resolution from the first stage on: a map a stage."""

    Config: ClassVar[type[NetworkConfig]] = SegResNetDSConfig

    def __init__(self, config: SegResNetDSConfig) -> None:
        net = SegResEncoder(init_filters=config.width, in_channels=config.in_channels, blocks_down=config.blocks)
        super().__init__(config, [config.width * 2**stage for stage in range(len(config.blocks))])
        self.conv_init, self.layers = net.conv_init, net.layers
        replace_batch_norms(self, config.norm)
        # In a list, which registers nothing: `layers` holds them already, each with what leads on to the next.
        between = [nn.Identity(), *(level["downsample"] for level in self.layers[:-1])]
        self._parts: list[nn.Module] = [
            nn.Sequential(step, level["blocks"]) for step, level in zip(between, self.layers, strict=True)
        ]
        for part, step in zip([self.conv_init, *self._parts], config.steps, strict=True):
            flatten(part, step)
        self.to(memory_format=torch.channels_last_3d)

    def _stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage."""
        return self.conv_init(x)

    def _stages(self) -> list[nn.Module]:
        """Fine to coarse."""
        return self._parts
