"""The vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) over 3D tokens, of MONAI's blocks."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from monai.networks.blocks.transformerblock import TransformerBlock
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from toolkit.encoders.networks.base import Family, Network, NetworkConfig, Sides, Triple, register, triple

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Features of a token, blocks and attention heads: those of DeiT (Touvron et al. 2021, arXiv:2012.12877)."""
MLP_RATIO = 4


class ViTConfig(NetworkConfig):
    """Shape of the network."""

    name: Literal["vit"] = "vit"
    """The network."""
    size: Literal["tiny", "small", "base"] = "small"
    """Features of a token, blocks and heads: 192, 12, 3; 384, 12, 6; 768, 12, 12."""
    hidden_size: PositiveInt | None = None
    """Features of a token, a multiple of 6, if not the size's."""
    num_layers: PositiveInt | None = None
    """Blocks, if not the size's."""
    num_heads: PositiveInt | None = None
    """Attention heads, if not the size's."""
    token_side: Sides = 8
    """Voxels along each side of the boxes that become tokens, one number or three: fewer along thick slices. Half of a
    side costs eight times as much."""
    class_token: bool = False
    """One more token, from which and to which all others attend. The embedding stays the mean of the others."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Features of a token, blocks, heads."""
        given = (self.hidden_size, self.num_layers, self.num_heads)
        hidden, layers, heads = (one or preset for one, preset in zip(given, SIZES[self.size], strict=True))
        return hidden, layers, heads

    @property
    def min_sides(self) -> Triple:
        """One token."""
        return triple(self.token_side)

    @property
    def multiples(self) -> Triple:
        """Whole tokens."""
        return triple(self.token_side)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        hidden_size, _, num_heads = self.shape
        if hidden_size % 6:
            raise ValueError(f"hidden_size: {hidden_size} is no multiple of 6, which the positions of three axes need")
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size: {hidden_size} cannot be shared by num_heads: {num_heads}; take a divisor")
        return self


@register("vit")
class ViT(Network):
    """The vision transformer of tokens of 3D patches, with sine-cosine positions for a grid of any size: one map.

    Attributes:
        token_side: Voxels along each side of what becomes a token.
    """

    Config: ClassVar[type[NetworkConfig]] = ViTConfig
    family: ClassVar[Family] = "vit"

    def __init__(self, config: ViTConfig) -> None:
        hidden_size, num_layers, num_heads = config.shape
        token_side = triple(config.token_side)
        super().__init__(config, (hidden_size,), token_side)
        self.token_side = token_side
        self.patch_embedding = nn.Conv3d(config.in_channels, hidden_size, token_side, stride=token_side)
        nn.init.xavier_uniform_(self.patch_embedding.weight.data.flatten(1))  # as the matrix that it is
        nn.init.zeros_(self.patch_embedding.bias)  # type: ignore[arg-type]
        if config.class_token:
            self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, hidden_size))
        self.blocks = transformer_blocks(num_layers, hidden_size, num_heads)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """One map, (B, hidden_size, i, j, k), a cell a token."""
        tokens_BND = self.transformed(self.tokens(patches_BCIJK))
        return [tokens_BND.transpose(1, 2).unflatten(2, self._grid(patches_BCIJK))]

    def tokens(self, patches_BCIJK: Tensor) -> Tensor:
        """(B, C, I, J, K) to (B, N, hidden_size), positions added, in C order of the grid."""
        tokens_BND = self.patch_embedding(patches_BCIJK).flatten(2).transpose(1, 2)
        positions_ND = sine_cosine_positions(self._grid(patches_BCIJK), tokens_BND.shape[2])
        return tokens_BND + positions_ND.to(tokens_BND.device)

    def transformed(self, tokens_BND: Tensor) -> Tensor:
        """The blocks and the last norm; any number of tokens, so some may be left out."""
        x = tokens_BND
        if self.config.class_token:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = self._through(block, x)
        return self.norm(x)[:, int(self.config.class_token) :]

    def _grid(self, patches_BCIJK: Tensor) -> Triple:
        i, j, k = (n // side for n, side in zip(patches_BCIJK.shape[2:], self.token_side, strict=True))
        return i, j, k


def transformer_blocks(num_layers: int, hidden_size: int, num_heads: int) -> nn.ModuleList:
    """MONAI's blocks (B, N, D) -> (B, N, D), with weights drawn as in the MAE (He et al. 2021, arXiv:2111.06377)."""
    blocks = nn.ModuleList()
    for _ in range(num_layers):
        block = TransformerBlock(
            hidden_size, MLP_RATIO * hidden_size, num_heads, qkv_bias=True, use_flash_attention=True
        )
        block.norm_cross_attn = nn.Identity()  # of no use here, and its weights would get no gradient
        blocks.append(block)
    for layer in blocks.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return blocks


def sine_cosine_positions(grid: Sequence[int], hidden_size: int) -> Tensor:
    """Sines and cosines of each axis's index at hidden_size / 6 wavelengths, as MONAI's ViT has them.

    Args:
        grid: Cells along I, J and K.
        hidden_size: D, a multiple of 6.

    Returns:
        (I * J * K, D) float32, in C order of the grid: J's sines and cosines, I's, then K's.
    """
    num_waves = hidden_size // 6
    frequencies = 10_000.0 ** -(torch.arange(num_waves, dtype=torch.float32) / num_waves)
    tables = []
    for axis in (1, 0, 2):
        angles = torch.arange(grid[axis], dtype=torch.float32)[:, None] * frequencies
        shape = [grid[axis] if number == axis else 1 for number in range(3)]
        tables.append(torch.cat([angles.sin(), angles.cos()], dim=1).reshape(*shape, 2 * num_waves))
    return torch.cat([table.expand(*grid, -1) for table in tables], dim=3).flatten(0, 2)
