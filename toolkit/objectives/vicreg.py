"""VICReg: variance, invariance, covariance (Bardes, Ponce & LeCun 2022, arXiv:2105.04906)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives import references
from toolkit.objectives.base import ViewObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.training import Step
from toolkit.training.alarms import Limit
from toolkit.training.gather import gather_rows


class VICRegConfig(Section):
    """Settings of VICReg."""

    name: Literal["vicreg"] = "vicreg"
    """The method."""
    lambda_param: float = Field(25.0, ge=0)
    """Weight of invariance: both views of a sample lie close together."""
    mu_param: float = Field(25.0, ge=0)
    """Weight of variance: each feature has a deviation of at least 1 over the batch."""
    nu_param: float = Field(1.0, ge=0)
    """Weight of covariance: features are uncorrelated."""
    hidden_dim: int = Field(512, gt=0)
    """Width of the expander's two hidden layers: four times the default encoder's features, as the paper's 8,192 are
    of a ResNet-50's."""
    projection_dim: int = Field(512, gt=1)
    """Width of the expander's output; the method gains by many."""
    head_norm: HeadNorm = "batch"
    """Norm of the hidden layers. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Variances and covariances over the samples of all processes; no effect with one process."""


def vicreg_loss(
    z0: Tensor, z1: Tensor, lambda_param: float, mu_param: float, nu_param: float, *, gather: bool = False
) -> Tensor:
    """Variance, invariance and covariance (Bardes et al. 2022, equations 1 to 6), as the authors' code weighs them.

    Their code differs from their text: it takes the *mean* of squared distances over D, where equation 5 has the sum,
    and *half* of the two views' variance terms, where equation 6 has their sum. The published weights, 25, 25 and 1,
    are those of the code, so that the code's form is right for them. The text's value is this one's at
    (lambda_param * D, 2 * mu_param, nu_param).

    Args:
        z0: First views, (N, D); not normalised.
        z1: Second views, (N, D), row by row the partners of `z0`.
        lambda_param: Weight of the mean squared distance of partners.
        mu_param: Weight of the mean over features of max(0, 1 - deviation), the mean of both views. Deviations
            are those of unbiased variances, plus 1e-4 under the root.
        nu_param: Weight of the squared off-diagonal covariances, summed over both views and divided by D.
        gather: Variances and covariances over the samples of all processes. Averaged over processes, value and
            gradient equal those of one process with all samples.

    Returns:
        A scalar. At collapse it is 0.99 * mu_param.

    When to use:
        No negatives, no copy, no trick: what keeps embeddings from collapsing is written in the loss. Batches from 64
        up: covariances over fewer samples are noise.

    Relations:
        `barlow_twins_loss` correlates across views and has one weight. `nt_xent_loss` contrasts samples, not features.
        The memory for covariances is (D, D), 1 MB at 512.
    """
    assert z0.shape == z1.shape and z0.ndim == 2
    with torch.autocast(z0.device.type, enabled=False):
        at_least = torch.promote_types(z0.dtype, torch.float32)
        z0_ND, z1_ND = (gather_rows(z.to(at_least)) if gather else z.to(at_least) for z in (z0, z1))
        invariance = F.mse_loss(z0_ND, z1_ND)
        (variance0, covariance0), (variance1, covariance1) = _spread(z0_ND), _spread(z1_ND)
        return (
            lambda_param * invariance + mu_param * (variance0 + variance1) / 2 + nu_param * (covariance0 + covariance1)
        )


def _spread(z_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The variance and the covariance term of one view."""
    num, dim = z_ND.shape
    centred_ND = z_ND - z_ND.mean(dim=0)
    covariance_DD = centred_ND.T @ centred_ND / max(num - 1, 1)
    variance_D = covariance_DD.diagonal()
    off_diagonal = covariance_DD.square().sum() - variance_D.square().sum()
    return F.relu(1 - (variance_D + 1e-4).sqrt()).mean(), off_diagonal / dim


@register("vicreg")
class VICReg(ViewObjective):
    """VICReg: an encoder and a wide expander whose features vary and are uncorrelated.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K).

    When to use:
        No negatives, and a term for each thing it asks, so that a run that goes wrong shows which. Samples that
        resemble each other, such as neighbouring patches, are not pushed apart.

    Relations:
        `barlow_twins` is near to it, with one weight. `simclr` with large batches and few features.

    Memory and cost:
        1.1 times SimCLR's time, for the wider head, and its memory.
    """

    Config: ClassVar[type[Section]] = VICRegConfig
    # Without the variance term it falls from 0.26 to 0.06 in 15 steps and to 0.01 in 60, which normalised embeddings do
    # not show; a sound run stays above 0.29.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"feature_std": Limit(low=0.1)}
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            vicreg_loss,
            references.vicreg,
            {"lambda_param": 25.0, "mu_param": 25.0, "nu_param": 1.0},
            collapsed=references.vicreg_collapsed,
        ),
    )

    def __init__(self, config: VICRegConfig, encoder: nn.Module) -> None:
        hidden = [config.hidden_dim, config.hidden_dim]
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, hidden, config.projection_dim, config.head_norm))  # type: ignore[arg-type]

    def step(self, z: tuple[Tensor, ...]) -> Step:
        """The loss, and the deviation that its variance term keeps up: `embedding_std` is of normalised rows."""
        step = super().step(z)
        wide = z[0].detach().to(torch.promote_types(z[0].dtype, torch.float32))
        return replace(step, logs={**step.logs, "feature_std": wide.std(dim=0, unbiased=False).mean()})

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """The weighted sum of the three terms."""
        config = self.config
        return vicreg_loss(*z, config.lambda_param, config.mu_param, config.nu_param, gather=config.gather)
