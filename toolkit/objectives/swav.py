"""SwAV: one view predicts the other's cluster, clusters are of equal size (Caron et al. 2020, arXiv:2006.09882)."""

import math
from collections.abc import Mapping
from dataclasses import replace
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
from toolkit.training import Step
from toolkit.training.alarms import Limit
from toolkit.training.gather import gather_rows, process_rank
from toolkit.training.monitors import teacher_entropy


class SwAVConfig(Section):
    """Settings of SwAV."""

    name: Literal["swav"] = "swav"
    """The method."""
    temperature: float = Field(0.1, gt=0)
    """Softness of predictions."""
    epsilon: float = Field(0.05, gt=0)
    """Softness of codes; above `temperature` they teach little."""
    sinkhorn_iterations: int = Field(3, gt=0)
    """How often rows and columns are levelled."""
    num_prototypes: int = Field(64, gt=1)
    """Clusters. The paper's 3,000 are shared out over thousands of samples; here at most as many as samples in a batch,
    so that its queue is not needed."""
    freeze_fraction: float = Field(0.01, ge=0, le=1)
    """Share of the training over which prototypes stay at their random start (the paper's one epoch of 100 to 800)."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projection head's hidden layer; twice the default encoder's features."""
    projection_dim: int = Field(128, gt=1)
    """Width of the head's output, in which prototypes lie."""
    head_norm: HeadNorm = "batch"
    """Norm of the hidden layer. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Share clusters out over the samples of all processes; no effect with one process."""


def swapped_prediction_loss(scores: Tensor, codes: Tensor, temperature: float, *, gather: bool = False) -> Tensor:
    """Cross-entropy of one view's codes under the other's prediction (Caron et al. 2020, equation 2).

    Args:
        scores: One view's cosine similarities to the prototypes, (N, K).
        codes: The other view's share of each prototype, (N, K), rows add up to 1, such as those of `sinkhorn`. The
            gradient reaches them: a method makes them without one.
        temperature: Divides the scores; computed in log-space, at least in float32.
        gather: Of no effect: here samples are not compared; `sinkhorn` compares them.

    Returns:
        Mean over the N samples, a scalar. At collapse, where all scores are equal, it is ln K.

    When to use:
        With codes from `sinkhorn`; from a softmax it would put all samples into one cluster.

    Relations:
        `info_nce_loss` compares with samples instead of clusters, at a cost that grows with their number.
    """
    assert scores.shape == codes.shape and scores.ndim == 2
    with torch.autocast(scores.device.type, enabled=False):
        at_least = torch.promote_types(scores.dtype, torch.float32)
        log_p_NK = F.log_softmax(scores.to(at_least) / temperature, dim=1)
        return -(codes.to(at_least) * log_p_NK).sum(dim=1).mean()


def sinkhorn(scores: Tensor, epsilon: float, num_iterations: int = 3, *, gather: bool = False) -> Tensor:
    """Codes that use every prototype equally (Cuturi 2013, arXiv:1306.0895; Caron et al. 2020, equation 5).

    Computed in log-space, at least in float32, so that it stays finite at any `epsilon`.

    Args:
        scores: Similarities of samples to prototypes, (N, K).
        epsilon: Entropy: near 0 each sample gets one prototype.
        num_iterations: How often prototypes, then samples, are levelled.
        gather: Share prototypes out over the samples of all processes, each of which must hold the same N.

    Returns:
        (N, K). Each row adds up to 1; after many iterations each column adds up to N / K.
    """
    with torch.autocast(scores.device.type, enabled=False):
        wide_NK = scores.to(torch.promote_types(scores.dtype, torch.float32))
        log_q_MK = (gather_rows(wide_NK) if gather else wide_NK) / epsilon
        num, num_prototypes = log_q_MK.shape
        for _ in range(num_iterations):
            log_q_MK = log_q_MK - log_q_MK.logsumexp(dim=0) + math.log(num / num_prototypes)
            log_q_MK = log_q_MK - log_q_MK.logsumexp(dim=1, keepdim=True)
        first = len(scores) * process_rank() if gather else 0
        return log_q_MK[first : first + len(scores)].exp()


@register("swav")
class SwAV(ViewObjective):
    """SwAV: each view predicts the prototypes that the other view was given.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K). Without the paper's many small crops
    and its queue.

    When to use:
        Data with groups, such as organs or sequences, of about equal size. Samples are compared with prototypes and
        not with each other, so that those that resemble each other share one.

    Relations:
        `simclr` where every sample is its own class. Groups of very unequal size are cut up: take `vicreg` there.

    Memory and cost:
        1.05 times SimCLR's time, and its memory.
    """

    Config: ClassVar[type[Section]] = SwAVConfig
    # Codes too soft to teach are at 1.00 from the start; a sound run ends at 0.56. The entropy of the mean is near 1
    # in either case, as clusters are levelled.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"teacher_entropy": Limit(high=0.95)}
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            swapped_prediction_loss,
            references.swapped_prediction,
            {"temperature": 0.1},
            inputs=references.scores_and_codes,
            collapsed=references.swapped_prediction_collapsed,
        ),
    )

    def __init__(self, config: SwAVConfig, encoder: nn.Module) -> None:
        head = mlp_head(encoder.embed_dim, [config.hidden_dim], config.projection_dim, config.head_norm)  # type: ignore[arg-type]
        super().__init__(config, encoder, head)
        self.prototypes = nn.Linear(config.projection_dim, config.num_prototypes, bias=False)
        self.register_buffer("frozen", torch.tensor(config.freeze_fraction > 0))
        self._level_prototypes()

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Unit projections (B, D) of both views, then their scores (B, K) with the prototypes."""
        weight_KD = torch.where(self.frozen, self.prototypes.weight.detach(), self.prototypes.weight)
        projections = self.projected(both_views(batch))
        with torch.autocast(weight_KD.device.type, enabled=False):  # bfloat16's digits are few for a temperature of 0.1
            z0_BD, z1_BD = (F.normalize(z.to(weight_KD.dtype), dim=1) for z in projections)
            return z0_BD, z1_BD, F.linear(z0_BD, weight_KD), F.linear(z1_BD, weight_KD)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean swapped prediction loss of both directions."""
        *_, scores0, scores1 = z
        codes0, codes1 = self._codes(scores0), self._codes(scores1)
        temperature = self.config.temperature
        return (
            swapped_prediction_loss(scores0, codes1, temperature)
            + swapped_prediction_loss(scores1, codes0, temperature)
        ) / 2

    def step(self, z: tuple[Tensor, ...]) -> Step:
        """The loss, and how decided the codes are."""
        step, entropy = super().step(z), teacher_entropy(self._codes(z[2]))
        logs = {"teacher_entropy": entropy.of_samples, "teacher_mean_entropy": entropy.of_mean}
        return replace(step, logs={**step.logs, **logs})

    def after_step(self, progress: float) -> None:
        """Prototypes go back to the sphere, and may move once enough of the training is done."""
        self._level_prototypes()
        self.frozen.fill_(progress < self.config.freeze_fraction)

    @torch.no_grad()
    def _codes(self, scores: Tensor) -> Tensor:
        config = self.config
        return sinkhorn(scores, config.epsilon, config.sinkhorn_iterations, gather=config.gather)

    @torch.no_grad()
    def _level_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
