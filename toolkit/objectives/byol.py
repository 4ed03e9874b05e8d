"""BYOL: a network predicts what its own slow copy says of the other view (Grill et al. 2020, arXiv:2006.07733)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives.base import ViewObjective, both_views, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.objectives.momentum import MomentumCopy, cosine_momentum
from toolkit.objectives.simsiam import SimSiam, negative_cosine_similarity
from toolkit.training.alarms import Limit


class BYOLConfig(Section):
    """Settings of BYOL."""

    name: Literal["byol"] = "byol"
    """The method."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Share of the target network that stays at a step, at the start; it rises to 1 along half a cosine. The paper's
    0.996, for 300,000 steps, averages 250 steps, a quarter of a short run. On the demo brains 0.95 was ahead of 0.99
    at each look at 300 steps (neighbours' accuracy .56 and .50 at the end, one seed)."""
    hidden_dim: int = Field(512, gt=0)
    """Width of both heads' hidden layers; four times the default encoder's features, where the paper's 4,096 are
    twice."""
    projection_dim: int = Field(128, gt=1)
    """Width of both heads' outputs, in which views are compared; as many as the default encoder's features, where the
    paper's 256 are an eighth."""
    head_norm: HeadNorm = "batch"
    """Norm of the heads' hidden layers. Batch norm depends on the batch, so that gradient caching needs another; with
    layer norm, BYOL works with good starting weights only (Richemond et al. 2020, arXiv:2010.10241)."""


@register("byol")
class BYOL(ViewObjective):
    """BYOL: each view's prediction is drawn to the slow copy's projection of the other view.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K). The loss is the paper's squared
    distance of normalised vectors, 2 - 2 cos, as the mean of both directions where the paper has their sum: then it
    lies between 0 and 4. Adam and LARS divide by the size of gradients, so that the half changes nothing.

    When to use:
        No negatives: samples that resemble each other, such as neighbouring patches, are not pushed apart. It
        bears small batches (from 32) better than SimCLR.

    Relations:
        `simsiam` is the same without the copy. `moco_v3` is the same with negatives. Where it collapses, `vicreg`.

    Memory and cost:
        1.4 times SimCLR's time, as both views go through the copy as well; no more memory for activations, which the
        copy frees at once. The weights are kept twice.
    """

    Config: ClassVar[type[Section]] = BYOLConfig
    # Without predictor and copy it falls from 0.4 to 0.1 in 10 steps and to 0.02 in 60; a sound run stays above 0.85.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"embedding_std": Limit(low=0.3)}
    claims: ClassVar[tuple[Claim, ...]] = SimSiam.claims

    def __init__(self, config: BYOLConfig, encoder: nn.Module) -> None:
        width, out, norm = config.hidden_dim, config.projection_dim, config.head_norm
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, [width], out, norm))  # type: ignore[arg-type]
        self.predictor = mlp_head(out, [width], out, norm)
        self.momentum = MomentumCopy(encoder, self.head)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Of both views the projections, their predictions, and the copy's projections, (B, D) each."""
        views = both_views(batch)
        targets = self.momentum(views)  # first: no graph fills memory yet
        projections = self.projected(views)
        return *projections, *self.predictor(torch.cat(projections)).chunk(2), *targets.chunk(2)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean of 2 - 2 cos over both directions."""
        *_, p0, p1, target0, target1 = z
        return 2 + negative_cosine_similarity(p0, target1.detach()) + negative_cosine_similarity(p1, target0.detach())

    def after_step(self, progress: float) -> None:
        """Moves the copy."""
        self.momentum.update(self.encoder, self.head, cosine_momentum(self.config.momentum, progress))
