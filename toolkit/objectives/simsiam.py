"""SimSiam: a predictor and a stopped gradient are enough (Chen & He 2021, arXiv:2011.10566)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives import references
from toolkit.objectives.base import ViewObjective, both_views, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.training.alarms import Limit


class SimSiamConfig(Section):
    """Settings of SimSiam."""

    name: Literal["simsiam"] = "simsiam"
    """The method."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projector's two hidden layers."""
    projection_dim: int = Field(256, gt=1)
    """Width of the projector's output, in which views are compared; twice the default encoder's features, where the
    paper's 2,048 are as many."""
    predictor_dim: int = Field(64, gt=0)
    """Width of the predictor's hidden layer, a bottleneck: a quarter of `projection_dim`, as in the paper."""
    head_norm: HeadNorm = "batch"
    """Norm of both heads. Without batch norm it learns little, and it may collapse (ibid., table 3)."""


def negative_cosine_similarity(p: Tensor, z: Tensor, *, gather: bool = False) -> Tensor:
    """Mean of minus the cosine of predictions and targets (Chen & He 2021, equation 1).

    The gradient reaches both: a method stops that of targets by `z.detach()`. BYOL's error of normalised vectors
    (Grill et al. 2020, equation 2) is 2 + 2 times this.

    Args:
        p: Predictions, (N, D); normalised here, at least in float32.
        z: Row by row their targets, (N, D); normalised here.
        gather: Of no effect: samples are not compared with each other.

    Returns:
        Mean over the N rows, a scalar from -1 to 1. At collapse it is -1, its optimum: it cannot show collapse.

    When to use:
        Inside `simsiam` and `byol`, whose networks keep embeddings from collapsing. By itself it collapses.

    Relations:
        `nt_xent_loss`, `barlow_twins_loss` and `vicreg_loss` have a term against collapse of their own.
    """
    assert p.shape == z.shape and p.ndim == 2
    with torch.autocast(p.device.type, enabled=False):
        at_least = torch.promote_types(p.dtype, torch.float32)
        p_ND, z_ND = (F.normalize(x.to(at_least), dim=1) for x in (p, z))
        return -(p_ND * z_ND).sum(dim=1).mean()


@register("simsiam")
class SimSiam(ViewObjective):
    """SimSiam: each view's prediction is drawn to the other's projection, through which no gradient flows.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K). The paper keeps the predictor's rate
    constant; here it follows the encoder's.

    When to use:
        The fewest parts and no negatives: samples that resemble each other, such as neighbouring patches, are not
        pushed apart. Batches from 32 up, with batch norm in the head, and a quarter of SimCLR's learning rate: above
        that, few directions are left.

    Relations:
        `byol` adds a slow copy, which steadies short trainings. `vicreg` needs no trick against collapse and says
        what it does.

    Memory and cost:
        1.05 times SimCLR's time, and its memory.
    """

    Config: ClassVar[type[Section]] = SimSiamConfig
    # The last norm keeps `embedding_std` above 0.7 even without the stopped gradient, where the rank falls to 3.5 in 40
    # steps. On the demo brains it stayed above 15 at a rate of 5e-4, and came to 4.5 at 2e-3, which is too high.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"effective_rank": Limit(low=6.0)}
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            negative_cosine_similarity, references.negative_cosine, {}, collapsed=references.negative_cosine_collapsed
        ),
    )

    def __init__(self, config: SimSiamConfig, encoder: nn.Module) -> None:
        width, out, norm = config.hidden_dim, config.projection_dim, config.head_norm
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, [width, width], out, norm, norm_last=True))  # type: ignore[arg-type]
        self.predictor = mlp_head(out, [config.predictor_dim], out, norm)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Projections (B, D) of both views, then their predictions (B, D)."""
        projections = self.projected(both_views(batch))
        return *projections, *self.predictor(torch.cat(projections)).chunk(2)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean negative cosine of both directions."""
        z0, z1, p0, p1 = z
        return (negative_cosine_similarity(p0, z1.detach()) + negative_cosine_similarity(p1, z0.detach())) / 2
