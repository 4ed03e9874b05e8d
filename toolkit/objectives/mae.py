"""MAE: a transformer sees a quarter of a volume and guesses the rest (He et al. 2022, arXiv:2111.06377)."""

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.networks.vit import sine_cosine_positions, transformer_blocks
from toolkit.encoders.scan import ScanEncoder
from toolkit.objectives.base import register
from toolkit.objectives.masking import MaskedObjective, Reconstruction, Reconstructor, of_cells, split_cells, to_cells


class MAEConfig(Section):
    """Settings of the masked autoencoder."""

    name: Literal["mae"] = "mae"
    """The method."""
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Share of tokens that are hidden. The paper's; in 3D too a high share of small cells was best (Chen et al. 2022,
    arXiv:2204.11716)."""
    normalize_targets: bool = True
    """Whether each cell's mean and deviation are taken out of what is to be guessed."""
    decoder_width: int | None = Field(None, gt=0, multiple_of=6)
    """Features of a token in the decoder; by default half the encoder's, as the paper's 512 of a large transformer's
    1,024."""
    decoder_layers: int = Field(4, gt=0)
    """Blocks of the decoder. The paper's 8 serve probes, and for fine-tuning one is enough; in 3D, light decoders did
    well (Chen et al. 2022)."""
    decoder_heads: Literal[1, 2, 3, 6] = 6
    """Attention heads of the decoder."""


class TokenReconstruction(Reconstructor):
    """Hides tokens from a transformer, and guesses their voxels with a light one that is thrown away.

    Args:
        encoder: With a `network` of the family "vit".
        config: Of the method.
    """

    def __init__(self, encoder: ScanEncoder, config: MAEConfig) -> None:
        super().__init__()
        network: Any = encoder.network
        self.cell: tuple[int, int, int] = network.token_side
        width = config.decoder_width or -(-encoder.embed_dim // 12) * 6
        num_values = encoder.config.in_channels * prod(self.cell)
        self.mask_ratio = config.mask_ratio
        self.embedding = nn.Linear(encoder.embed_dim, width)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.Sequential(*transformer_blocks(config.decoder_layers, width, config.decoder_heads))
        self.norm = nn.LayerNorm(width)
        self.voxels = nn.Linear(width, num_values)

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where a patch of these sides is a single token."""
        num_tokens = prod(side // size for side, size in zip(sides, self.cell, strict=True))
        split_cells(torch.zeros(1, dtype=torch.long), num_tokens, self.mask_ratio)

    def forward(self, encoder: ScanEncoder, views_BCIJK: Tensor, draws_B: Tensor) -> Reconstruction:
        """Guesses of the hidden tokens' voxels; which they are follows from `draws_B`, see `split_cells`."""
        encoder.refuse_shape(tuple(views_BCIJK.shape))
        network: Any = encoder.network
        tokens_BND = network.tokens(views_BCIJK)
        num_tokens = tokens_BND.shape[1]
        hidden_BM, visible_BK = split_cells(draws_B, num_tokens, self.mask_ratio)
        latent_BKD = network.transformed(of_cells(tokens_BND, visible_BK))
        embedded_BKW = self.embedding(latent_BKD)
        all_BNW = self.token.to(embedded_BKW.dtype).repeat(len(draws_B), num_tokens, 1)
        all_BNW = all_BNW.scatter(1, visible_BK[:, :, None].expand_as(embedded_BKW), embedded_BKW)
        grid = [side // size for side, size in zip(views_BCIJK.shape[2:], self.cell, strict=True)]
        positions_NW = sine_cosine_positions(grid, embedded_BKW.shape[2]).to(all_BNW)
        decoded_BMW = of_cells(self.norm(self.blocks(all_BNW + positions_NW)), hidden_BM)
        return Reconstruction(
            self.voxels(decoded_BMW),
            of_cells(to_cells(views_BCIJK, self.cell), hidden_BM),
            encoder.pooled([latent_BKD.transpose(1, 2)[..., None, None]]),
        )


@register("mae")
class MAE(MaskedObjective):
    """MAE: a vision transformer on the visible tokens alone, and a light decoder that guesses the hidden ones.

    Batches hold one view of each sample, `view0`, (B, C, I, J, K), and `draws`, (B,), from which masks follow.

    When to use:
        Transformers that will be fine-tuned, above all for dense tasks. Any batch size; samples are not compared. On
        the demo brains, around a small transformer, neighbours' accuracy after 300 steps was .63, of random weights
        .43 (one seed each).

    Relations:
        `spark` is the same for convolutional networks. `hybrid` adds contrast between views: take it, or `moco_v3`,
        where embeddings are probed without fine-tuning.

    Memory and cost:
        0.25 of the time and memory of SimCLR around the same transformer: it sees a quarter of one view.
        `training.compile` is of no effect.
    """

    Config: ClassVar[type[Section]] = MAEConfig
    families: ClassVar[tuple[str, ...] | None] = ("vit",)

    def __init__(self, config: MAEConfig, encoder: ScanEncoder) -> None:
        super().__init__(config, encoder, TokenReconstruction(encoder, config))
