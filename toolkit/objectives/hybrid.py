"""Masked reconstruction and contrast between views in one pass (Mishra et al. 2022, CAN, arXiv:2210.16870).

Of the objectives of the FOMO25 challenge for brain MRI, hybrids of both led classification, and masked autoencoders
segmentation (Munk et al. 2026, arXiv:2604.11679). Tang et al. (2022, arXiv:2111.14791) pretrained Swin UNETR with both.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from toolkit.config import Section
from toolkit.encoders.scan import ScanEncoder
from toolkit.objectives.base import ViewObjective, both_views, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.objectives.mae import MAEConfig, TokenReconstruction
from toolkit.objectives.masking import MaskedObjective, Reconstruction, Reconstructor, cell_errors
from toolkit.objectives.simclr import SimCLR, nt_xent_loss
from toolkit.objectives.spark import SparKConfig, SparseReconstruction
from toolkit.training import Step


class HybridConfig(Section):
    """Settings of the hybrid."""

    name: Literal["hybrid"] = "hybrid"
    """The method."""
    contrast_weight: float = Field(1.0, ge=0)
    """Weight of the NT-Xent loss of both views. CAN's are .03 and .67 of reconstruction; equal ones, which were not
    tuned, lean far more on contrast, for embeddings that are probed as they are."""
    reconstruction_weight: float = Field(1.0, ge=0)
    """Weight of the mean squared error of hidden cells."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Share of cells that are hidden in each view: CAN's, less than without contrast, for which views must have
    something in common."""
    normalize_targets: bool = True
    """Whether each cell's mean and deviation are taken out of what is to be guessed."""
    temperature: float = Field(0.2, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projection head's hidden layer."""
    projection_dim: int = Field(128, gt=1)
    """Width of the head's output, in which views are compared."""
    head_norm: HeadNorm = "batch"
    """Norm of the head's hidden layer. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Use the samples of all processes as negatives; no effect with one process."""


@register("hybrid")
class Hybrid(ViewObjective):
    """Both views are masked, seen once, guessed where they were hidden, and contrasted by what was visible.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K), and `draws`, (B,), from which masks
    follow. The networks that guess are those of `spark` for convolutional encoders and of `mae` for transformers, with
    their defaults. CAN's third part, guessing noise, is left out.

    When to use:
        One encoder for classification with few labels and for dense tasks. On the demo brains, neighbours' accuracy
        after 300 steps was .66 around the default encoder, of `simclr` .71 and of `spark` .48; around a small
        transformer .69 after 50 steps, of `mae` .46 (one seed each).

    Relations:
        `simclr` alone where there is no dense task, `spark` or `mae` alone where there is nothing else.

    Memory and cost:
        Around a convolutional network 3 times SimCLR's time and 1.9 times its memory; around a transformer, which
        leaves hidden tokens out, two thirds of both. `training.compile` is of no effect.
    """

    Config: ClassVar[type[Section]] = HybridConfig
    families: ClassVar[tuple[str, ...] | None] = ("cnn", "vit")
    claims: ClassVar[tuple[Claim, ...]] = (*SimCLR.claims, *MaskedObjective.claims)

    def __init__(self, config: HybridConfig, encoder: ScanEncoder) -> None:
        super().__init__(
            config, encoder, mlp_head(encoder.embed_dim, [config.hidden_dim], config.projection_dim, config.head_norm)
        )
        shared = {"mask_ratio": config.mask_ratio, "normalize_targets": config.normalize_targets}
        self.reconstructor: Reconstructor = (
            TokenReconstruction(encoder, MAEConfig(**shared))
            if encoder.family == "vit"
            else SparseReconstruction(encoder, SparKConfig(**shared))
        )

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where patches of these sides have no cells to hide; asked before the first step."""
        self.reconstructor.refuse_sides(sides)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Projections (B, D) of both views, then the mean error of each one's hidden cells, (B, 1)."""
        draws = batch["draws"]
        found: Reconstruction = self.reconstructor(self.encoder, both_views(batch), torch.cat([draws, ~draws]))
        predicted, target, pooled = found
        errors = cell_errors(predicted, target, normalize_targets=self.config.normalize_targets)
        return *self.head(pooled).chunk(2), *errors.mean(dim=1, keepdim=True).chunk(2)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """The weighted sum of contrast and reconstruction."""
        z0, z1, *errors = z
        contrast = nt_xent_loss(z0, z1, self.config.temperature, gather=self.config.gather)
        return self.config.contrast_weight * contrast + self.config.reconstruction_weight * torch.cat(errors).mean()

    def step(self, z: tuple[Tensor, ...]) -> Step:
        """The loss, and its part that is reconstruction, before its weight."""
        step = super().step(z)
        return replace(step, logs={**step.logs, "reconstruction": torch.cat(z[2:]).detach().mean()})
