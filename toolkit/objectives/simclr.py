"""SimCLR: two views of a sample attract, views of others repel (Chen et al. 2020, arXiv:2002.05709)."""

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
from toolkit.training.gather import gather_rows, process_rank


class SimCLRConfig(Section):
    """Settings of SimCLR."""

    name: Literal["simclr"] = "simclr"
    """The method."""
    temperature: float = Field(0.2, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives. Between the paper's 0.1 for ImageNet and
    0.5 for CIFAR-10."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projection head's hidden layer; twice the default encoder's features, where the paper's 2,048 are as
    many."""
    projection_dim: int = Field(128, gt=1)
    """Width of the head's output, in which views are compared."""
    head_norm: HeadNorm = "batch"
    """Norm of the head's hidden layer. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Use the samples of all processes as negatives; no effect with one process."""


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
        first = 2 * num_local * process_rank() if gather else 0
        keys_MD = gather_rows(local_ND) if gather else local_ND
        logits_NM = local_ND @ keys_MD.T / temperature
        row = torch.arange(2 * num_local, device=z0.device)
        is_self = torch.zeros_like(logits_NM, dtype=torch.bool)
        is_self[row, first + row] = True
        partner = first + (row + num_local) % (2 * num_local)
        return F.cross_entropy(logits_NM.masked_fill(is_self, float("-inf")), partner)


@register("simclr")
class SimCLR(ViewObjective):
    """SimCLR: an encoder and a projection head under the NT-Xent loss.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K).

    When to use:
        The default for scans: simple, and good with batches from 64 up.

    Relations:
        `moco` where memory allows small batches only. `vicreg` and `barlow_twins` where samples resemble each other so
        much that they should not be pushed apart.

    Memory and cost:
        What the other methods' docs compare with: the encoder sees two views of each sample, the head is small.
        (Their figures: `python -m benchmarks.objectives`, a step of 64 patches of 24^3 voxels, memory at 256, two
        CPU cores, encoders as they are by default; `benchmarks/RESULTS.md` has the table.)
    """

    Config: ClassVar[type[Section]] = SimCLRConfig
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(nt_xent_loss, references.nt_xent, {"temperature": 0.2}, collapsed=references.nt_xent_collapsed),
    )

    def __init__(self, config: SimCLRConfig, encoder: nn.Module) -> None:
        head = mlp_head(encoder.embed_dim, [config.hidden_dim], config.projection_dim, config.head_norm)  # type: ignore[arg-type]
        super().__init__(config, encoder, head)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean NT-Xent loss of a pair of projections."""
        return nt_xent_loss(*z, self.config.temperature, gather=self.config.gather)
