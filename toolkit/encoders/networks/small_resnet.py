"""A residual network that a CPU can train: one block a stage, a coarse stem, no pooling before the stages."""

from typing import ClassVar, Literal

from monai.networks.nets.resnet import ResNet
from pydantic import Field, PositiveInt

from toolkit.encoders.networks.base import NetworkConfig, Triple, register
from toolkit.encoders.networks.convolutional import ConvolutionalConfig
from toolkit.encoders.networks.resnet import ResidualNetwork


class SmallResNetConfig(ConvolutionalConfig):
    """Shape of the network."""

    name: Literal["small_resnet"] = "small_resnet"
    """The network."""
    width: int = Field(16, gt=0)
    """Channels of the first stage; each later one has twice as many."""
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1, 1)
    """Residual blocks of each of the four stages."""
    stem_kernel: int = Field(5, ge=1)
    """Kernel of the first convolution."""
    stem_stride: int = Field(3, ge=1)
    """Stride of the first convolution. 2 sees finer detail at about three times the cost."""
    pooled_stages: tuple[int, ...] = (4,)
    """Stages (1 to 4) whose spatial means make up the embedding."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the stem and of each stage where voxels are cubes."""
        return (self.stem_stride, 1, 2, 2, 2)

    @property
    def min_sides(self) -> Triple:
        """Voxels that a patch needs along each axis; few even of a cell, for small patches are what it is for."""
        return super().min_sides if self.voxel_mm else (8, 8, 8)


@register("small_resnet")
class SmallResNet(ResidualNetwork):
    """A small MONAI ResNet of basic blocks without max pooling, for CPUs and for small patches: four maps."""

    Config: ClassVar[type[NetworkConfig]] = SmallResNetConfig

    def __init__(self, config: SmallResNetConfig) -> None:
        net = ResNet(
            block="basic",
            layers=list(config.blocks),
            block_inplanes=[config.width * 2**stage for stage in range(4)],
            n_input_channels=config.in_channels,
            conv1_t_size=config.stem_kernel,
            conv1_t_stride=config.stem_stride,
            no_max_pool=True,
            feed_forward=False,
        )
        super().__init__(config, net, max_pool=False)
