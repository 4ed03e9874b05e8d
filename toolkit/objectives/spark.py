"""SparK: a convolutional network guesses hidden cells from what it sees (Tian et al. 2023, arXiv:2301.03580)."""

from collections.abc import Sequence
from itertools import count
from math import lcm, prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.scan import ScanEncoder
from toolkit.errors import ConfigError
from toolkit.objectives.base import register
from toolkit.objectives.masking import (
    MaskedObjective,
    Reconstruction,
    Reconstructor,
    Sides,
    of_cells,
    split_cells,
    to_cells,
)
from toolkit.objectives.sparse import masked_group_norm, masked_maps, refuse_unmaskable, visible_at


class SparKConfig(Section):
    """Settings of SparK."""

    name: Literal["spark"] = "spark"
    """The method."""
    mask_ratio: float = Field(0.6, gt=0, lt=1)
    """Share of cells that are hidden."""
    min_cells: int = Field(27, gt=1)
    """Cells are those of the network's coarsest map that parts the patches that come in evenly into at least so many.
    The paper's is the coarsest of all, 49 cells of a photo; of a small patch it would be one cell."""
    normalize_targets: bool = True
    """Whether each cell's mean and deviation are taken out of what is to be guessed."""
    decoder_width: int | None = Field(None, ge=16)
    """Channels of the decoder at the coarsest map, halved at each finer one down to 16; by default half the encoder's,
    near to the paper's 768 for a ResNet-50's 2,048."""


class SparseReconstruction(Reconstructor):
    """Hides cells from a convolutional encoder, and guesses them with a U-Net's decoder that is thrown away.

    At each map, places of which the encoder saw nothing are filled with a token that is learnt. The decoder's norms
    are group norms of one group, where the paper's are batch norms: then portions of a batch give the same gradients.

    Args:
        encoder: Convolutional, with `stride`, `config.in_channels` and `config.fits`.
        config: Of the method.

    Attributes:
        strides: Voxels of a place of each map, fine to coarse, along each axis.

    Raises:
        ConfigError: The encoder's norms do not allow it.
    """

    def __init__(self, encoder: ScanEncoder, config: SparKConfig) -> None:
        super().__init__()
        refuse_unmaskable(encoder)
        maps, self.strides = _maps(encoder)
        in_channels = encoder.config.in_channels
        self.mask_ratio, self.min_cells = config.mask_ratio, config.min_cells
        width, channels = config.decoder_width or max(16, maps[-1].shape[1] // 2), [one.shape[1] for one in maps]
        widths = [max(16, width >> step) for step in range(len(maps) + 1)]
        self.levels = nn.ModuleList(map(_Level, reversed(channels), widths, widths[1:]))
        self.voxels = nn.Conv3d(widths[-1], in_channels * prod(self.strides[0]), 1)
        self.to(memory_format=torch.channels_last_3d)  # as the networks

    def cell(self, sides: Sequence[int]) -> Sides:
        """Voxels along each side of the cells of a patch of these sides.

        Raises:
            ConfigError: No map parts it evenly into enough cells.
        """
        for stride in reversed(self.strides):
            multiples = map(lcm, stride, self.strides[0])
            is_even = not any(side % multiple for side, multiple in zip(sides, multiples, strict=True))
            if is_even and prod(sides) >= self.min_cells * prod(stride):
                return stride
        places = ", ".join("x".join(map(str, stride)) for stride in self.strides)
        raise ConfigError(
            f"views.patch_size: no map of this encoder, whose places are of {places} voxels, parts patches of "
            f"{tuple(sides)} voxels evenly into {self.min_cells} cells or more; take larger patches, multiples of such "
            "a place, or lower encoder.stem_stride or, of spark, objective.min_cells"
        )

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where no map parts patches of these sides evenly into enough cells."""
        self.cell(sides)

    def forward(self, encoder: ScanEncoder, views_BCIJK: Tensor, draws_B: Tensor) -> Reconstruction:
        """Guesses of the hidden cells, which follow from `draws_B`; see `split_cells`."""
        sides = views_BCIJK.shape[2:]
        cell = self.cell(sides)
        grid = [side // size for side, size in zip(sides, cell, strict=True)]
        hidden_BM, visible_BK = split_cells(draws_B, prod(grid), self.mask_ratio)
        visible = torch.zeros(len(draws_B), prod(grid), dtype=torch.bool, device=draws_B.device)
        visible = visible.scatter_(1, visible_BK, True).view(-1, 1, *grid)
        maps = masked_maps(encoder, views_BCIJK, visible)
        seen = [visible_at(visible, one.shape[2:]) for one in maps]
        guess_BNV = to_cells(_shuffled(self._decoded(maps, seen), self.strides[0]), cell)
        shares = [one.float().mean(dim=(1, 2, 3, 4), keepdim=True) for one in seen]
        return Reconstruction(
            of_cells(guess_BNV, hidden_BM),
            of_cells(to_cells(views_BCIJK, cell), hidden_BM),
            encoder.pooled([one / share for one, share in zip(maps, shares, strict=True)]),
        )

    def _decoded(self, maps: list[Tensor], seen: list[Tensor]) -> Tensor:
        x: Tensor | None = None
        for level, one, visible in zip(self.levels, reversed(maps), reversed(seen), strict=True):
            x = level(one, visible, x)
        decoded: Tensor = self.voxels(x)
        return decoded


@register("spark")
class SparK(MaskedObjective):
    """SparK: a convolutional encoder under sparse convolution, and a light decoder that guesses what was hidden.

    Batches hold one view of each sample, `view0`, (B, C, I, J, K), and `draws`, (B,), from which masks follow.

    When to use:
        Convolutional networks that will be fine-tuned, above all for dense tasks. Of the methods for brain MRI that
        Wald et al. (2024, arXiv:2412.17041) compared, masked ones led segmentation and contrastive ones classification.
        Any batch size; samples are not compared. As it is, its embedding is weak: on the demo brains, neighbours'
        accuracy after 300 steps was .48, of random weights .39 and of `simclr` .71 (one seed each); halfway, a
        `mask_ratio` of .75 was worse and raw targets no better.

    Relations:
        `mae` is the same for transformers, which need no sparse convolution. `hybrid` adds contrast between views:
        take it, or `simclr`, where embeddings are probed without fine-tuning.

    Memory and cost:
        1.7 times SimCLR's time and 1.1 times its memory, of one view where that has two: masked layers and a decoder as
        deep as the encoder. `training.compile` is of no effect.
    """

    Config: ClassVar[type[Section]] = SparKConfig
    families: ClassVar[tuple[str, ...] | None] = ("cnn",)

    def __init__(self, config: SparKConfig, encoder: ScanEncoder) -> None:
        super().__init__(config, encoder, SparseReconstruction(encoder, config))


class _Level(nn.Module):
    """One scale of the decoder: fills a map's hidden places, adds it to what came from the coarser one, refines."""

    def __init__(self, channels: int, width: int, next_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.token = nn.Parameter(torch.empty(1, channels, 1, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.project = nn.Conv3d(channels, width, 3, padding=1)
        self.refine = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, next_width, 3, padding=1, bias=False),
            nn.GroupNorm(1, next_width),
        )

    def forward(self, features: Tensor, visible: Tensor, coarser: Tensor | None) -> Tensor:
        # As in the networks: a CPU's bfloat16 gradient of so few voxels is not to be trusted.
        if features.device.type == "cpu" and min(features.shape[2:]) <= 4:
            with torch.autocast("cpu", enabled=False):
                return self._forward(features.to(self.token.dtype), visible, coarser)
        return self._forward(features, visible, coarser)

    def _forward(self, features: Tensor, visible: Tensor, coarser: Tensor | None) -> Tensor:
        normed = masked_group_norm(features, visible, 1, self.norm.weight, self.norm.bias, self.norm.eps)
        x: Tensor = self.project(torch.where(visible, normed, self.token.to(normed.dtype)))
        if coarser is not None:
            # Nearest, as the gradient of a smoother interpolation is not the same each time on a GPU.
            x = x + F.interpolate(coarser, x.shape[2:], mode="nearest-exact")
        refined: Tensor = self.refine(x)
        return refined


def _maps(encoder: ScanEncoder) -> tuple[list[Tensor], list[Sides]]:
    """The maps of the smallest patch that whole cells of the coarsest one fill, and the voxels of a place of each."""
    multiples = (tuple(number * side for side in encoder.stride) for number in count(1))
    sides = next(some for some in multiples if encoder.config.fits(some))
    was_training = encoder.training
    with torch.no_grad():
        maps = encoder.eval().forward(next(encoder.parameters()).new_zeros(1, encoder.config.in_channels, *sides))
    encoder.train(was_training)
    return maps, [_stride(sides, one) for one in maps]


def _stride(sides: Sequence[int], one: Tensor) -> Sides:
    i, j, k = (side // places for side, places in zip(sides, one.shape[2:], strict=True))
    return i, j, k


def _shuffled(values: Tensor, stride: Sides) -> Tensor:
    """Channels that hold a place's voxels to voxels: (B, C * si * sj * sk, i, j, k) to (B, C, i * si, ...)."""
    b, _, i, j, k = values.shape
    si, sj, sk = stride
    return (
        values.view(b, -1, si, sj, sk, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, -1, i * si, j * sj, k * sk)
    )
