"""The encoder of MONAI's Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266): attention in shifted windows."""

from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from monai.networks.nets.swin_unetr import SwinTransformer
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from toolkit.encoders.networks.base import Family, Network, NetworkConfig, Sides, Triple, register, triple

NUM_STAGES = 4
HALVINGS = 2**NUM_STAGES


class SwinUNETRConfig(NetworkConfig):
    """Shape of the network; with width 48 that of MONAI's self-supervised release."""

    name: Literal["swin_unetr"] = "swin_unetr"
    """The network."""
    width: int = Field(24, gt=0)
    """Features of a token; each of the four stages doubles them. A multiple of 3."""
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    """Blocks of each stage."""
    num_heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 6, 12, 24)
    """Attention heads of each stage."""
    window: Sides = 7
    """Tokens along each side of a window, one number or three. Where a map is smaller, MONAI looks up distances as if
    it were not, and weights trained with it expect that; embed patches of the size that was trained on."""
    token_side: Sides = 2
    """Voxels along each side of the boxes that become tokens, one number or three: fewer along thick slices."""
    pooled_maps: tuple[int, ...] = (5,)
    """Maps (1: the tokens, 2 to 5: the stages) whose spatial means make up the embedding."""

    @property
    def min_sides(self) -> Triple:
        """More than half of a cell of the coarsest map."""
        i, j, k = (HALVINGS * side // 2 + 1 for side in triple(self.token_side))
        return i, j, k

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for stage, heads in enumerate(self.num_heads):
            if self.width * 2**stage % heads:
                raise ValueError(
                    f"num_heads: {heads} heads cannot share the {self.width * 2**stage} features of stage {stage + 1}; "
                    "change width, or num_heads"
                )
        if wrong := [number for number in self.pooled_maps if not 1 <= number <= NUM_STAGES + 1]:
            raise ValueError(f"pooled_maps: no map {wrong[0]}; there are 1 to {NUM_STAGES + 1}")
        return self


@register("swin_unetr")
class SwinUNETR(Network):
    """The encoder of MONAI's Swin UNETR: a map of the tokens and one of each stage, each normalised."""

    Config: ClassVar[type[NetworkConfig]] = SwinUNETRConfig
    family: ClassVar[Family] = "swin"

    def __init__(self, config: SwinUNETRConfig) -> None:
        i, j, k = token_side = triple(config.token_side)
        super().__init__(
            config,
            [config.width * 2**number for number in range(NUM_STAGES + 1)],
            (i * HALVINGS, j * HALVINGS, k * HALVINGS),
            [number - 1 for number in config.pooled_maps],
        )
        net = SwinTransformer(
            in_chans=config.in_channels,
            embed_dim=config.width,
            window_size=triple(config.window),
            patch_size=token_side,
            depths=config.blocks,
            num_heads=config.num_heads,
        )
        self.patch_embed = net.patch_embed
        self.layers1, self.layers2, self.layers3, self.layers4 = net.layers1, net.layers2, net.layers3, net.layers4

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """Five maps, each half as fine as the one before, (B, width * 2**number, i, j, k)."""
        x = self.patch_embed(patches_BCIJK)
        features = [_normalised(x)]
        for stage in (self.layers1, self.layers2, self.layers3, self.layers4):
            x = self._through(stage[0], x.contiguous())
            features.append(_normalised(x))
        return features


def _normalised(x: Tensor) -> Tensor:
    """Each cell over its channels."""
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],)).movedim(-1, 1)
