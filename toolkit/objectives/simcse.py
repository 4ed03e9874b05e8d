"""SimCSE: a text finds itself under other dropout, or its translation, among other texts (Gao et al. 2021,
arXiv:2104.08821)."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.console import log
from toolkit.encoders.text import PoolingConfig, TextEncoder
from toolkit.objectives import references
from toolkit.objectives.base import PairObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.kept_tokens import kept_tokens
from toolkit.objectives.moco_v3 import MoCoV3, in_batch_info_nce_loss

LAST = PoolingConfig(layers=(-1,))


def grouped_info_nce_loss(
    query: Tensor, key: Tensor, groups: Tensor, temperature: float, *, gather: bool = False
) -> Tensor:
    """`in_batch_info_nce_loss` whose negatives are the keys of other groups: of a text that stands in a batch beside
    two translations, neither is wrong.

    Args:
        query: Embeddings in training, (N, D).
        key: Row by row the partners of `query`, (N, D).
        groups: (N,) numbers.
        temperature: Divides the similarities.
        gather: Compare with the keys of all processes.

    Returns:
        Mean over this process's N queries, a scalar; 0 where all are of one group.

    When to use:
        Pairs of which several share a text.

    Relations:
        Without groups it is `in_batch_info_nce_loss`.
    """
    return in_batch_info_nce_loss(query, key, temperature, gather=gather, groups=groups)


class SimCSEConfig(Section):
    """Settings of SimCSE."""

    name: Literal["simcse"] = "simcse"
    """The method."""
    positives: Literal["dropout", "translations"] = "dropout"
    """What a text has to find: itself, seen through other dropout, or its translation."""
    temperature: float = Field(0.05, gt=0)
    """Softness of the comparison: low values weigh the hardest negatives."""
    gather: bool = True
    """Use the texts of all processes as negatives; no effect with one process."""


@register("simcse")
class SimCSE(PairObjective):
    """A text encoder whose pooled last layer tells texts apart, whatever dropout leaves of them.

    Batches are those of `toolkit.text.batches.MaskedBatches`, of which it takes `clean_ids`; or, with
    `positives: translations`, pairs of translations (`toolkit.text.pairs`). The paper takes the first token through a
    layer that is dropped later; here it is the pooled vector itself, which is what `embed` gives.

    When to use:
        After masked modelling, for embeddings of sentences; with translations, for sentences in several languages.

    Relations:
        `halves` shows two halves of a text instead of the whole twice: better with spectral vectors and no dropout.
        `tsdae` needs no negatives. The loss is that of `moco_v3`, in one direction.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    Config: ClassVar[type[Section]] = SimCSEConfig
    claims: ClassVar[tuple[Claim, ...]] = (
        *MoCoV3.claims,
        Claim(
            grouped_info_nce_loss,
            references.grouped_info_nce,
            {"temperature": 0.2},
            inputs=references.grouped_views,
            collapsed=references.grouped_info_nce_collapsed,
        ),
    )

    def __init__(self, config: SimCSEConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.config = config
        if config.positives == "translations":
            self.pairing = "translation"
        elif not any(isinstance(part, nn.Dropout) and part.p > 0 for part in encoder.modules()):
            log.warning(
                "simcse: the encoder has no dropout, so a text is compared with itself and nothing but negatives "
                "teaches; set encoder.dropout: 0.1, or objective.positives: translations"
            )

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Pooled vectors (B, D) of both passes; or of both sides, and their groups (B, 1)."""
        ids_BT = batch["clean_ids"]
        if self.pairing is None:
            sides = [{"input_ids": ids_BT, "attention_mask": batch["attention_mask"]}] * 2
        else:
            pad_id = self.encoder.tokenizer.special.pad
            sides = [kept_tokens(ids_BT, batch["segments"] == side, pad_id) for side in range(2)]
        z = tuple(self.encoder.pooled(self.encoder(side), LAST) for side in sides)
        # Numbers within the step, so that float32 is exact; the loop asks all of `z` for a gradient.
        return z if self.pairing is None else (*z, batch["groups"][:, None].float())

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """Mean InfoNCE of finding the second of each pair among all second ones, but for those of its own group."""
        query, key, *rest = z
        groups = rest[0].detach()[:, 0] if rest else None
        return in_batch_info_nce_loss(query, key, self.config.temperature, gather=self.config.gather, groups=groups)
