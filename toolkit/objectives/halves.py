"""Two halves of one text attract, halves of different texts repel: contrastive learning without augmentation.

DeCLUTR (Giorgi et al. 2021, arXiv:2006.03659) and Contriever (Izacard et al. 2022, arXiv:2112.09118) take two
spans of a long document; short texts have no two, so here each token goes to one half or the other by chance.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from toolkit.config import Section
from toolkit.encoders.text import PoolingConfig, TextEncoder
from toolkit.objectives.base import PairObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.simclr import SimCLR, nt_xent_loss
from toolkit.text.masking import FIRST_REGULAR
from toolkit.text.tokenizer import BOS, PAD

LAST = PoolingConfig(layers=(-1,))


class HalvesConfig(Section):
    """Settings of contrasting halves."""

    name: Literal["halves"] = "halves"
    """The method."""
    temperature: float = Field(0.1, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    freeze_embeddings: bool = True
    """Keep the token embeddings as they are: right if they are spectral vectors, wrong if they are random."""
    gather: bool = True
    """Use the samples of all processes as negatives; no effect with one process."""


def split_in_halves(ids_BT: Tensor, coins_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Deals each text's tokens out to two halves, in their order.

    Args:
        ids_BT: Token ids with start, end and padding.
        coins_BT: Uniform draws in [0, 1); below a half, a token goes to the first half.

    Returns:
        Two of (B, T'), each text's tokens after the start token, padded to the longest. Every token of a text
        is in exactly one of them.
    """
    in_text_BT = ids_BT >= FIRST_REGULAR
    first_BT = coins_BT < 0.5
    kept_2BT = torch.stack([in_text_BT & first_BT, in_text_BT & ~first_BT])
    first, second = kept_2BT.sum(dim=2).amax(dim=1).clamp_min(1).tolist()  # one wait for the GPU, not two
    return _packed(ids_BT, kept_2BT[0], first), _packed(ids_BT, kept_2BT[1], second)


@register("halves")
class Halves(PairObjective):
    """A text encoder under the NT-Xent loss of its last layer's pooled halves.

    Batches are those of `toolkit.text.batches.MaskedBatches`; of these, `clean_ids` and `coins`.

    When to use:
        After a spectral start, with a budget of minutes: what a probe reads, the pooled vector, is what is
        trained, and there is no head as large as the vocabulary.

    Relations:
        `mlm` trains the vectors of tokens, and needs far more steps before pooled ones profit. The loss is
        that of `simclr`.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    Config: ClassVar[type[Section]] = HalvesConfig
    claims: ClassVar[tuple[Claim, ...]] = SimCLR.claims

    def __init__(self, config: HalvesConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.config = config
        encoder.model.get_input_embeddings().requires_grad_(not config.freeze_embeddings)

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Pooled vectors (B, D) of both halves."""
        first, second = split_in_halves(batch["clean_ids"], batch["coins"])
        return self._embedded(first), self._embedded(second)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean NT-Xent loss of a pair of pooled vectors."""
        return nt_xent_loss(*z, self.config.temperature, gather=self.config.gather)

    def _embedded(self, ids_BT: Tensor) -> Tensor:
        features = self.encoder({"input_ids": ids_BT, "attention_mask": (ids_BT != PAD).long()})
        return self.encoder.pooled(features, LAST)


def _packed(ids_BT: Tensor, kept_BT: Tensor, longest: int) -> Tensor:
    order = torch.argsort((~kept_BT).long(), dim=1, stable=True)[:, :longest]
    packed = torch.where(kept_BT.gather(1, order), ids_BT.gather(1, order), PAD)
    return torch.cat([torch.full_like(packed[:, :1], BOS), packed], dim=1)
