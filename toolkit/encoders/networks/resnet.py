"""MONAI's 3D ResNet (He et al. 2015, arXiv:1512.03385), of 10 to 50 layers."""

from typing import Any, ClassVar, Literal

import monai.networks.nets.resnet as monai_resnet
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.encoders.networks.base import NetworkConfig, Triple, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig, ConvolutionalNetwork
from toolkit.encoders.networks.norms import replace_batch_norms
from toolkit.encoders.networks.thick_slices import flatten

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks of each stage by the number of layers."""


class ResNetConfig(ConvolutionalConfig):
    """The published shape by default, without the dilations of MedicalNet."""

    name: Literal["resnet"] = "resnet"
    """The network."""
    depth: Literal[10, 18, 34, 50] = 18
    """Layers. 50 has bottleneck blocks, and four times as many channels."""
    width: int = Field(64, gt=0)
    """Channels of the first stage; each later one has twice as many."""
    stem_kernel: int = Field(7, ge=1)
    """Kernel of the first convolution."""
    stem_stride: int = Field(2, ge=1)
    """Stride of the first convolution."""
    max_pool: bool = True
    """Halve the resolution again before the first stage."""
    shortcut: Literal["A", "B"] = "B"
    """Where a stage changes the shape, its input is added through a convolution (B), or strided and filled up with zero
    channels (A), as MedicalNet's of 18 and 34 layers."""
    shortcut_bias: bool = False
    """Whether the convolutions of shortcut B have a bias, as MONAI's have by default."""
    dilated: bool = False
    """As MedicalNet's (Chen et al. 2019, arXiv:1904.00625): the last two stages do not halve the resolution; their
    kernels are spread by 2 and 4 instead. Costs eight to 64 times as much in them."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        late = 1 if self.dilated else 2
        return (self.stem_stride, 2 if self.max_pool else 1, 2, late, late)


class ResidualNetwork(ConvolutionalNetwork):
    """What the large ResNet and the small one share.

    Args:
        config: Its section.
        net: MONAI's network; the parts in use are taken out of it.
        max_pool: Whether its pooling is in use.
    """

    def __init__(self, config: Any, net: monai_resnet.ResNet, *, max_pool: bool) -> None:
        expansion = 4 if isinstance(net.layer1[0], monai_resnet.ResNetBottleneck) else 1
        super().__init__(config, [config.width * 2**stage * expansion for stage in range(4)])
        replace_batch_norms(net, config.norm)
        self.conv1, self.bn1, self.act = net.conv1, net.bn1, net.act
        self.maxpool = net.maxpool if max_pool else nn.Identity()
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        first, *later = config.steps
        for part, step in zip([self.conv1, *self._stages()], [first, *later], strict=True):
            flatten(part, step)
        flatten(self.maxpool, later[0])
        self.to(memory_format=torch.channels_last_3d)  # a fifth faster on a CPU

    def _stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage."""
        return self.maxpool(self.act(self.bn1(self.conv1(x))))

    def _stages(self) -> list[nn.Module]:
        """Fine to coarse."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]


@register("resnet")
class ResNet(ResidualNetwork):
    """MONAI's ResNet of 10, 18, 34 or 50 layers, as published and as MedicalNet has it: four maps."""

    Config: ClassVar[type[NetworkConfig]] = ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        net = monai_resnet.ResNet(
            block="bottleneck" if config.depth == 50 else "basic",
            layers=list(BLOCKS[config.depth]),
            block_inplanes=[config.width * 2**stage for stage in range(4)],
            n_input_channels=config.in_channels,
            conv1_t_size=config.stem_kernel,
            conv1_t_stride=config.stem_stride,
            shortcut_type=config.shortcut,
            bias_downsample=config.shortcut_bias,
            feed_forward=False,
        )
        super().__init__(config, net, max_pool=config.max_pool)
        if config.shortcut == "A":
            for stage, channels, step in zip(self._stages(), self.channels, config.steps[1:], strict=True):
                if stage[0].downsample is not None:  # type: ignore[index]
                    stride = (1, 1, 1) if stage is self.layer1 else step.stride
                    stage[0].downsample = ZeroFilled(channels, stride)  # type: ignore[index]
        if config.dilated:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)


class ZeroFilled(nn.Module):
    """Shortcut A. MONAI's own cuts the gradient off, which this one does not."""

    def __init__(self, channels: int, stride: Triple) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, i, j, k) to (B, channels, ...), each axis strided."""
        i, j, k = self.stride
        x = x[:, :, ::i, ::j, ::k]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.channels - x.shape[1]))


def _dilate(stage: nn.Module, dilation: int) -> None:
    for layer in stage.modules():
        if isinstance(layer, nn.Conv3d):
            layer.stride = (1, 1, 1)
            if max(layer.kernel_size) > 1:
                layer.dilation = (dilation,) * 3
                layer.padding = tuple(size // 2 * dilation for size in layer.kernel_size)
