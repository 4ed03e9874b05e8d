"""MoCo v2: queries meet a queue of past keys (Chen, Fan, Girshick & He 2020, arXiv:2003.04297; v1 arXiv:1911.05722)."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives import references
from toolkit.objectives.base import ViewObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.objectives.momentum import MomentumCopy
from toolkit.training import Step
from toolkit.training.gather import gather_rows


class MoCoConfig(Section):
    """Settings of MoCo v2."""

    name: Literal["moco"] = "moco"
    """The method."""
    temperature: float = Field(0.2, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    queue_size: int = Field(4096, gt=0)
    """Past keys that serve as negatives. The paper's 65,536 would take 1,000 steps of 64 samples to fill, with keys of
    an encoder that is long gone; 4,096 are 64 such steps."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of the key encoder that stays at a step. The paper's 0.999 averages 1,000 steps, which is all of a short
    run: keys would come from the untrained network."""
    hidden_dim: int = Field(256, gt=0)
    """Width of the projection head's hidden layer; twice the default encoder's features."""
    projection_dim: int = Field(128, gt=1)
    """Width of the head's output, in which queries and keys are compared."""
    head_norm: HeadNorm = "none"
    """Norm of the head's hidden layer; the paper's has none."""


def info_nce_loss(query: Tensor, key: Tensor, queue: Tensor, temperature: float, *, gather: bool = False) -> Tensor:
    """InfoNCE with a queue of negatives (van den Oord et al. 2018, arXiv:1807.03748; He et al. 2020, equation 1).

    Each query must find its key among K others by cosine similarity. Computed in log-space, at least in float32.

    Args:
        query: Embeddings in training, (N, D); normalised here, as are the others.
        key: Row by row the partners of `query`, (N, D).
        queue: Negatives of all queries, (K, D).
        temperature: Divides the similarities.
        gather: Of no effect: a query meets its own key and the queue, which every process has. Averaged over
            processes, value and gradient are those of one process with all samples.

    Returns:
        Mean over the N queries, a scalar. At collapse it is ln(K + 1).

    When to use:
        Where memory allows no batch large enough for SimCLR: the number of negatives is the queue's, not the batch's.
        Its cost is a matrix of (N, K + 1) similarities.

    Relations:
        `nt_xent_loss` takes its negatives from the batch, `moco_v3.in_batch_info_nce_loss` from the batch's keys.
    """
    assert query.shape == key.shape and query.ndim == 2 and queue.shape[1] == query.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        at_least = torch.promote_types(query.dtype, torch.float32)
        query_ND, key_ND, queue_KD = (F.normalize(z.to(at_least), dim=1) for z in (query, key, queue))
        positive_N1 = (query_ND * key_ND).sum(dim=1, keepdim=True)
        logits = torch.cat([positive_N1, query_ND @ queue_KD.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


@register("moco")
class MoCo(ViewObjective):
    """MoCo v2: an encoder, its slow copy, and a queue of the copy's keys under InfoNCE.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K): the first becomes the query, the
    second the key. After each step the queue takes the keys of the global batch, in its order, whatever the number of
    portions and processes; it starts with random directions, as in the paper.

    When to use:
        Batches of 8 to 64, where SimCLR has too few negatives. Samples ought to outnumber the queue, or most
        negatives are the positives of a few steps before. With `encoder.norm: group`: under batch norm a query
        knows its key by the statistics that their batch has in common, for which the paper shuffles samples
        between GPUs.

    Relations:
        `moco_v3` drops the queue for large batches. `simclr` needs no copy. `byol` keeps the copy, drops the negatives.

    Memory and cost:
        0.9 of SimCLR's time and 0.7 of its memory: each network sees one view, and one of them without a graph. The
        weights are kept twice, the queue takes 2 MB.
    """

    Config: ClassVar[type[Section]] = MoCoConfig
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            info_nce_loss,
            references.info_nce,
            {"temperature": 0.2},
            inputs=references.with_queue,
            shared=(2,),
            collapsed=references.info_nce_collapsed,
        ),
    )

    def __init__(self, config: MoCoConfig, encoder: nn.Module) -> None:
        head = mlp_head(encoder.embed_dim, [config.hidden_dim], config.projection_dim, config.head_norm)  # type: ignore[arg-type]
        super().__init__(config, encoder, head)
        self.momentum = MomentumCopy(encoder, head)
        self.register_buffer("queue", F.normalize(torch.randn(config.queue_size, config.projection_dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))
        self._new_keys: Tensor | None = None

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Queries (B, D) of the first views and keys (B, D) of the second."""
        key_BD = self.momentum(batch["view1"])  # first: no graph fills memory yet
        return self.head(self.encoder.pooled(self.encoder(batch["view0"]))), key_BD  # type: ignore[operator]

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean InfoNCE loss of queries and keys."""
        query, key = z
        return info_nce_loss(query, key.detach(), self.queue, self.config.temperature)

    def step(self, z: tuple[Tensor, ...]) -> Step:
        """The loss; keeps the keys of all processes for the queue."""
        self._new_keys = gather_rows(z[1].detach())
        return super().step(z)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the copy and puts the step's keys in the place of the oldest."""
        self.momentum.update(self.encoder, self.head, self.config.momentum)
        if self._new_keys is None:
            return
        size = len(self.queue)
        keys = F.normalize(self._new_keys[-size:].to(self.queue), dim=1)
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % size
        self.queue[rows] = keys
        self.oldest.copy_((self.oldest + len(keys)) % size)
        self._new_keys = None
