"""MoCo v3: queries find their keys among the batch's (Chen, Xie & He 2021, arXiv:2104.02057)."""

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
from toolkit.objectives.momentum import MomentumCopy, cosine_momentum
from toolkit.training.gather import gather_rows, process_rank


class MoCoV3Config(Section):
    """Settings of MoCo v3."""

    name: Literal["moco_v3"] = "moco_v3"
    """The method."""
    temperature: float = Field(0.2, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of the key encoder that stays at a step, at the start; it rises to 1 along half a cosine."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the heads' hidden layers; the paper's 4,096 are twice its encoder's features too."""
    projection_dim: int = Field(128, gt=1)
    """Width of both heads' outputs, in which queries and keys are compared; the paper's is 256."""
    head_norm: HeadNorm = "batch"
    """Norm of the heads. Batch norm depends on the batch, so that gradient caching needs another."""
    gather: bool = True
    """Use the keys of all processes as negatives; no effect with one process."""


def in_batch_info_nce_loss(
    query: Tensor, key: Tensor, temperature: float, *, gather: bool = False, groups: Tensor | None = None
) -> Tensor:
    """InfoNCE whose negatives are the keys of the batch's other samples (Chen, Xie & He 2021, algorithm 1).

    The paper multiplies by twice the temperature, so that the size of a gradient does not depend on it. Here it is the
    plain cross-entropy: Adam and LARS divide by the size of gradients, and the value compares with SimCLR's.

    Args:
        query: Embeddings in training, (N, D); normalised here, as are keys.
        key: Row by row the partners of `query`, (N, D).
        temperature: Divides the similarities.
        gather: Compare with the keys of all processes; every process must hold the same N. Averaged over processes,
            value and gradient equal those of one process with all samples.
        groups: (N,) numbers; another's key of a query's own number is no negative. Each has its own if not given.

    Returns:
        Mean over this process's N queries, a scalar. At collapse it is ln N, N counted over all processes.

    When to use:
        Batches from 256 up, with keys that come from another network than queries.

    Relations:
        `nt_xent_loss` compares with the other queries too. `moco.info_nce_loss` has its negatives in a queue.
    """
    assert query.shape == key.shape and query.ndim == 2
    with torch.autocast(query.device.type, enabled=False):
        at_least = torch.promote_types(query.dtype, torch.float32)
        query_ND, key_ND = (F.normalize(z.to(at_least), dim=1) for z in (query, key))
        keys_MD = gather_rows(key_ND) if gather else key_ND
        first = len(query) * process_rank() if gather else 0
        own = first + torch.arange(len(query), device=query.device)
        logits_NM = query_ND @ keys_MD.T / temperature
        if groups is not None:
            groups_M = gather_rows(groups) if gather else groups
            alike_NM = groups[:, None] == groups_M
            logits_NM = logits_NM.masked_fill(alike_NM.scatter(1, own[:, None], False), float("-inf"))
        return F.cross_entropy(logits_NM, own)


@register("moco_v3")
class MoCoV3(ViewObjective):
    """MoCo v3: an encoder with projector and predictor against its slow copy, negatives from the batch.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K); each is query and key in turn.

    When to use:
        Batches from 256 up, and transformers, for which it was made: the slow copy steadies them. The paper also keeps
        their first projection of patches at its random start, which is not done here.

    Relations:
        `simclr` needs no copy, and .7 of the time. `moco` for small batches. `byol` is the same without
        negatives.

    Memory and cost:
        1.4 times SimCLR's time, as both views go through the copy as well; no more memory for activations, which the
        copy frees at once. The weights are kept twice.
    """

    Config: ClassVar[type[Section]] = MoCoV3Config
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            in_batch_info_nce_loss,
            references.in_batch_info_nce,
            {"temperature": 0.2},
            collapsed=references.in_batch_info_nce_collapsed,
        ),
    )

    def __init__(self, config: MoCoV3Config, encoder: nn.Module) -> None:
        width, out, norm = config.hidden_dim, config.projection_dim, config.head_norm
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, [width, width], out, norm, norm_last=True))  # type: ignore[arg-type]
        self.predictor = mlp_head(out, [width], out, norm, norm_last=True)
        self.momentum = MomentumCopy(encoder, self.head)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Queries (B, D) of both views, then their keys (B, D)."""
        views = both_views(batch)
        keys = self.momentum(views).chunk(2)  # first: no graph fills memory yet
        return *self.predictor(torch.cat(self.projected(views))).chunk(2), *keys

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean InfoNCE loss of both directions; the paper's is their sum."""
        query0, query1, key0, key1 = z
        temperature, gather = self.config.temperature, self.config.gather
        return (
            in_batch_info_nce_loss(query0, key1.detach(), temperature, gather=gather)
            + in_batch_info_nce_loss(query1, key0.detach(), temperature, gather=gather)
        ) / 2

    def after_step(self, progress: float) -> None:
        """Moves the copy."""
        self.momentum.update(self.encoder, self.head, cosine_momentum(self.config.momentum, progress))
