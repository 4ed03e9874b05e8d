"""Barlow Twins: a feature agrees over both views, and with no other (Zbontar et al. 2021, arXiv:2103.03230)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives import references
from toolkit.objectives.base import ViewObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.training.alarms import Limit
from toolkit.training.gather import gather_rows


class BarlowTwinsConfig(Section):
    """Settings of Barlow Twins."""

    name: Literal["barlow_twins"] = "barlow_twins"
    """The method."""
    lambda_param: float = Field(5e-3, ge=0)
    """Weight of each off-diagonal entry."""
    hidden_dim: int = Field(512, gt=0)
    """Width of the projector's two hidden layers: four times the default encoder's features, as the paper's 8,192
    are of a ResNet-50's."""
    projection_dim: int = Field(512, gt=1)
    """Width of the projector's output, whose features are correlated; the method gains by many."""
    head_norm: HeadNorm = "batch"
    """Norm of the hidden layers. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Correlate over the samples of all processes; no effect with one process."""


def barlow_twins_loss(z0: Tensor, z1: Tensor, lambda_param: float, *, gather: bool = False) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021, equations 1 and 2).

    The cross-correlation matrix of both views' features is drawn to the identity. Features are centred and divided by
    their biased deviation over the batch, as equation 2 says; the authors' code adds 1e-5 to the variance (batch
    norm), which for variances near 1 changes a correlation by 1e-5. A feature that does not vary by more than rounding
    counts as uncorrelated with all, and gets no gradient.

    Args:
        z0: First views, (N, D).
        z1: Second views, (N, D), row by row the partners of `z0`.
        lambda_param: Weight of the off-diagonal entries.
        gather: Correlate over the samples of all processes. Averaged over processes, value and gradient equal
            those of one process with all samples.

    Returns:
        The sum over the D x D entries, a scalar: the batch enters through its correlations. At collapse it is D.

    When to use:
        No negatives, and no trick against collapse. Batches from 64 up: correlations over fewer samples are noise.

    Relations:
        `vicreg_loss` decorrelates each view by itself, so that views need not have the same network.
        `nt_xent_loss` contrasts samples, not features. The memory for correlations is (D, D), 1 MB at 512.
    """
    assert z0.shape == z1.shape and z0.ndim == 2
    with torch.autocast(z0.device.type, enabled=False):
        at_least = torch.promote_types(z0.dtype, torch.float32)
        z0_ND, z1_ND = (gather_rows(z.to(at_least)) if gather else z.to(at_least) for z in (z0, z1))
        correlation_DD = _standardised(z0_ND).T @ _standardised(z1_ND) / len(z0_ND)
        diagonal_D = correlation_DD.diagonal()
        off_diagonal = correlation_DD.square().sum() - diagonal_D.square().sum()
        return (1 - diagonal_D).square().sum() + lambda_param * off_diagonal


def _standardised(z_ND: Tensor) -> Tensor:
    """Of mean 0 and deviation 1 over the batch; a feature of one value but for rounding becomes 0."""
    centred_ND = z_ND - z_ND.mean(dim=0)
    variance_D = centred_ND.square().mean(dim=0)
    varies_D = variance_D > (16 * torch.finfo(z_ND.dtype).eps) ** 2 * z_ND.square().mean(dim=0)
    return torch.where(varies_D, centred_ND * torch.where(varies_D, variance_D, 1).rsqrt(), 0)


@register("barlow_twins")
class BarlowTwins(ViewObjective):
    """Barlow Twins: an encoder and a wide projector whose features are decorrelated.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K).

    When to use:
        No negatives, no copy, nothing to tune but `lambda_param`. Samples that resemble each other, such as
        neighbouring patches, are not pushed apart.

    Relations:
        `vicreg` is near to it and has a term for each thing it asks. `simclr` with large batches and few features.

    Memory and cost:
        1.2 times SimCLR's time, for the wider head, and its memory.
    """

    Config: ClassVar[type[Section]] = BarlowTwinsConfig
    # Without decorrelation it falls to 3 in 20 steps and to 2 in 40; a sound run stays above 15.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"effective_rank": Limit(low=5.0)}
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            barlow_twins_loss,
            references.barlow_twins,
            {"lambda_param": 5e-3},
            collapsed=references.barlow_twins_collapsed,
        ),
    )

    def __init__(self, config: BarlowTwinsConfig, encoder: nn.Module) -> None:
        hidden = [config.hidden_dim, config.hidden_dim]
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, hidden, config.projection_dim, config.head_norm))  # type: ignore[arg-type]

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """The loss of both views' cross-correlation."""
        return barlow_twins_loss(*z, self.config.lambda_param, gather=self.config.gather)
