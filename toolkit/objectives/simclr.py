"""SimCLR: two views of a sample attract, views of others repel (Chen et al. 2020, arXiv:2002.05709)."""

from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives.base import Objective, register
from toolkit.training import Step
from toolkit.training.monitors import alignment


class SimCLRConfig(Section):
    """Settings of SimCLR."""

    name: Literal["simclr"] = "simclr"
    """The method."""
    temperature: float = Field(0.2, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projection head's hidden layer."""
    projection_dim: int = Field(128, gt=1)
    """Width of the head's output, in which views are compared."""
    gather: bool = False
    """Use the samples of all processes as negatives."""


def nt_xent_loss(z0: Tensor, z1: Tensor, temperature: float, *, gather: bool = False) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, equation 1; Sohn 2016, N-pair loss).

    Each of the 2N embeddings must find its partner among the other 2N - 1 by cosine similarity. Everything is
    computed in log-space, at least in float32, so it stays finite at temperatures far below those in use.

    Args:
        z0: First views, (N, D); normalised here.
        z1: Second views, (N, D), row by row the partners of `z0`.
        temperature: Divides the similarities.
        gather: Compare with the embeddings of all processes; every process must hold the same N. Averaged
            over processes, value and gradient equal those of one process with all samples.

    Returns:
        Mean over this process's 2N embeddings, a scalar. At collapse it is ln(2N - 1), N counted over all
        processes.

    When to use:
        The default for scans: simple, and good with batches from 64 up. Its cost is a (2N, 2N) matrix of
        similarities, 16 MB at N = 1024; time and memory otherwise go to the encoder, which sees 2N samples.

    Relations:
        With N from a queue of past keys it is MoCo's InfoNCE, which needs no large batch. Without negatives:
        VICReg, Barlow Twins, BYOL. With all samples of one class as partners: supervised contrastive
        learning.
    """
    assert z0.shape == z1.shape and z0.ndim == 2
    with torch.autocast(z0.device.type, enabled=False):
        local_ND = torch.cat([z0, z1])
        local_ND = F.normalize(local_ND.to(torch.promote_types(local_ND.dtype, torch.float32)), dim=1)
        num_local = len(z0)
        first = num_local * 2 * dist.get_rank() if gather and _distributed() else 0
        keys_MD = _gathered(local_ND) if gather and _distributed() else local_ND
        logits_NM = local_ND @ keys_MD.T / temperature
        row = torch.arange(2 * num_local, device=z0.device)
        is_self = torch.zeros_like(logits_NM, dtype=torch.bool)
        is_self[row, first + row] = True
        partner = first + (row + num_local) % (2 * num_local)
        return F.cross_entropy(logits_NM.masked_fill(is_self, float("-inf")), partner)


def projection_head(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Two linear layers with batch norm between, thrown away after training (ibid., section 4.2)."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim, bias=False),
    )


@register("simclr")
class SimCLR(Objective):
    """An encoder and a projection head under the NT-Xent loss.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K).
    """

    modality: ClassVar[Literal["scans", "text"]] = "scans"
    Config: ClassVar[type[Section]] = SimCLRConfig

    def __init__(self, config: SimCLRConfig, encoder: nn.Module) -> None:
        super().__init__(config, encoder)
        self.config = config
        self.head = projection_head(encoder.embed_dim, config.hidden_dim, config.projection_dim)  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Any]) -> Step:
        """Loss over the 2B views, and the projections of the first ones for the collapse monitors."""
        z0_BD, z1_BD = self.embed(batch)
        loss = self.loss((z0_BD, z1_BD))
        count = len(z0_BD) + len(z1_BD)
        logs = {"alignment": alignment(z0_BD.detach().float(), z1_BD.detach().float())}
        return Step(loss_sum=loss * count, count=count, logs=logs, embeddings=z0_BD)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of both views. One pass, so that batch norm sees them together."""
        views = torch.cat([batch["view0"], batch["view1"]])
        z0_BD, z1_BD = self.head(self.encoder.pooled(self.encoder(views))).chunk(2)  # type: ignore[operator]
        return z0_BD, z1_BD

    def loss(self, z: tuple[Tensor, Tensor]) -> Tensor:
        """Mean NT-Xent loss of a pair of projections."""
        return nt_xent_loss(*z, self.config.temperature, gather=self.config.gather)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """All processes' rows in rank order; backward sums what all processes ask of each row."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        size = len(grad) // dist.get_world_size()
        return grad[dist.get_rank() * size : (dist.get_rank() + 1) * size]


def _gathered(local: Tensor) -> Tensor:
    gathered: Tensor = _Gather.apply(local)
    return gathered
