"""The encoder of nnU-Net's ResEnc U-Nets (Isensee et al. 2024, arXiv:2404.09556), which nnssl pretrains."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from toolkit.encoders.networks.base import NetworkConfig, Sides, Triple, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig, ConvolutionalNetwork
from toolkit.encoders.networks.norms import Norm, norm_layer
from toolkit.encoders.networks.thick_slices import whole_stride
from toolkit.errors import ConfigError


class ResEncUNetConfig(ConvolutionalConfig):
    """Shape of the network; that of ResEnc-L by default."""

    name: Literal["resenc_unet"] = "resenc_unet"
    """The network."""
    patch_size: Sides = 64
    """Voxels along each side of the patches by which whole scans are embedded, one number or three: as large as those
    that it is trained on. It accepts others too."""
    widths: tuple[PositiveInt, ...] = Field((32, 64, 128, 256, 320, 320), min_length=1)
    """Channels of each stage. All stages but the first halve the resolution."""
    blocks: tuple[PositiveInt, ...] = (1, 3, 4, 6, 6, 6)
    """Residual blocks of each stage."""
    norm: Norm = "instance"
    """Instance norm is the published one. It and group norm do not depend on the batch, so gradient caching can use
    them."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        return (1, 1, *[2] * (len(self.widths) - 1))

    @property
    def min_sides(self) -> Triple:
        """One cell of the coarsest map."""
        return whole_stride(self.steps)

    @property
    def multiples(self) -> Triple:
        """Whole cells: its shortcuts average without padding."""
        return whole_stride(self.steps)

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths, blocks: {len(self.widths)} and {len(self.blocks)} stages; give as many of both")
        return self


@register("resenc_unet")
class ResEncUNet(ConvolutionalNetwork):
    """nnU-Net's residual encoder, by dynamic-network-architectures: a map a stage."""

    Config: ClassVar[type[NetworkConfig]] = ResEncUNetConfig

    def __init__(self, config: ResEncUNetConfig) -> None:
        try:
            from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
            from dynamic_network_architectures.initialization.weight_init import (
                InitWeights_He,
                init_last_bn_before_add_to_0,
            )
        except ImportError:
            raise ConfigError(
                "encoder.name: resenc_unet needs a package: pip install --no-deps dynamic-network-architectures "
                "(without its dependencies, which bring torchvision and are not used here)"
            ) from None
        super().__init__(config, config.widths)
        _, *steps = config.steps
        net = ResidualEncoder(
            config.in_channels,
            len(steps),
            config.widths,
            nn.Conv3d,
            [tuple(3 if wide else 1 for wide in step.wide) for step in steps],
            [step.stride for step in steps],
            config.blocks,
            conv_bias=True,
            norm_op=partial(norm_layer, norm=config.norm),
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        net.apply(InitWeights_He(1e-2)).apply(init_last_bn_before_add_to_0)
        self.stem, self.stages = net.stem, net.stages
        for layer in self.modules():
            if hasattr(layer, "all_modules"):  # the same layers by other names; safetensors keeps each tensor once
                del layer.conv, layer.norm
            if hasattr(layer, "skip") and not isinstance(layer.skip, nn.Module):
                layer.skip = nn.Identity()  # a lambda, which workers of a study could not unpickle
        self.to(memory_format=torch.channels_last_3d)

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def _stages(self) -> Sequence[nn.Module]:
        return list(self.stages)
