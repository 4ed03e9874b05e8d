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
from toolkit.objectives.kept_tokens import kept_tokens
from toolkit.objectives.simclr import SimCLR, nt_xent_loss

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


def split_in_halves(
    ids_BT: Tensor, coins_BT: Tensor, bos_id: int, eos_id: int, pad_id: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Deals each text's tokens out to two halves, in their order.

    Args:
        ids_BT: Token ids with start, end and padding.
        coins_BT: Uniform draws in [0, 1); below a half, a token goes to the first half.
        bos_id: Of the start, which both halves keep.
        eos_id: Of the end, which is dropped.
        pad_id: Of the padding.

    Returns:
        Two batches for an encoder, each text's tokens after the start token, padded to the longest. Every token of a
        text is in exactly one of them.
    """
    is_start_BT = ids_BT == bos_id
    in_text_BT = ~(is_start_BT | (ids_BT == eos_id) | (ids_BT == pad_id))
    first_BT = coins_BT < 0.5
    kept_2BT = torch.stack([in_text_BT & first_BT, in_text_BT & ~first_BT]) | is_start_BT
    lengths = kept_2BT.sum(dim=2).amax(dim=1).clamp_min(2).tolist()  # one wait for the GPU, not two
    first, second = (
        kept_tokens(ids_BT, kept_BT, pad_id, longest) for kept_BT, longest in zip(kept_2BT, lengths, strict=True)
    )
    return first, second


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
        special = self.encoder.tokenizer.special
        halves = split_in_halves(batch["clean_ids"], batch["coins"], special.bos, special.eos, special.pad)
        return tuple(self.encoder.pooled(self.encoder(half), LAST) for half in halves)

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean NT-Xent loss of a pair of pooled vectors."""
        return nt_xent_loss(*z, self.config.temperature, gather=self.config.gather)
