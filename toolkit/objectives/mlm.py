"""Masked language modelling (Devlin et al., 2019, arXiv:1810.04805), the output head on masked positions
only."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from toolkit.config import Section
from toolkit.encoders.text import TextEncoder, TextFeatures
from toolkit.objectives import text_references
from toolkit.objectives.base import Objective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.linear_cross_entropy import autocast_products, linear_cross_entropy
from toolkit.training import Step
from toolkit.training.alarms import Limit

NO_SPREAD_ASKED: Mapping[str, Limit] = {"embedding_std": Limit(), "effective_rank": Limit()}
"""Alarm limits where nothing asks pooled vectors to spread: 0.11 in a healthy run."""


class MLMConfig(Section):
    """Settings of masked language modelling. How much is masked is a matter of the batches."""

    name: Literal["mlm"] = "mlm"
    """The method."""


def mlm_loss(
    hidden_ME: Tensor,
    embeddings_VE: Tensor,
    bias_V: Tensor,
    targets_M: Tensor,
    *,
    products: torch.dtype | None = None,
) -> Tensor:
    """Cross-entropy of the true tokens at the masked positions, summed.

    Args:
        hidden_ME: Transformed hidden states at the masked positions alone, (M, E). The head is by far the
            largest matrix: on 15 % of the positions it costs a seventh of what it costs on all.
        embeddings_VE: Input token embeddings, tied as output weights (Press & Wolf, 2017), (V, E).
        bias_V: Output bias, (V,).
        targets_M: True ids, (M,).
        products: In which type matrices are multiplied; at least float32 if not given.

    Returns:
        Sum over the M positions, a scalar; 0 where M is 0. Divide by the *global* number of masked tokens. The (M, V)
        logits are never held at once.

    When to use:
        The default for text. With few steps start the token embeddings from `toolkit.text.spectral`.

    Relations:
        With minutes rather than hours to train, `halves` gives better pooled vectors. `electra` learns from all tokens
        and not from the masked ones alone; `tlm` is this on pairs of translations.
    """
    return linear_cross_entropy(hidden_ME, embeddings_VE, bias_V, targets_M, products=products)[0]


@register("mlm")
class MLM(Objective):
    """A text encoder and a masked-token head, which stays with the encoder.

    Batches are those of `toolkit.text.batches.MaskedBatches`.

    When to use:
        The default for text.

    Relations:
        `electra` where time is short for the size of the corpus; `tlm` on translations; `simcse`, `tsdae` or `halves`
        afterwards, for embeddings of whole texts.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    masks: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    Config: ClassVar[type[Section]] = MLMConfig
    alarm_limits: ClassVar[Mapping[str, Limit]] = NO_SPREAD_ASKED
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            mlm_loss,
            text_references.masked_tokens,
            inputs=text_references.tokens_to_predict,
            shared=(1, 2),
            collapsed=text_references.masked_tokens_collapsed,
            summed=True,
        ),
    )

    def __init__(self, config: Section, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        encoder.set_causal(False)
        self.head = encoder.take_lm_head()

    def forward(self, batch: dict[str, Any]) -> Step:
        """Loss summed over the masked tokens, whose number is the count."""
        features = self.encoder(batch)
        count = len(batch["targets"])
        return Step(
            loss_sum=self.masked_loss(features, batch),
            count=count,
            logs={"masked_share": count / batch["attention_mask"].sum()},
            embeddings=self.shown(features, batch),
        )

    def masked_loss(self, features: TextFeatures, batch: Mapping[str, Tensor]) -> Tensor:
        """`mlm_loss` of the encoder's hidden states (B, T, H)."""
        hidden_ME = self.head(features.last.flatten(0, 1)[batch["positions"]])
        embeddings_VE = self.encoder.token_embeddings
        products = autocast_products(hidden_ME)
        return mlm_loss(hidden_ME, embeddings_VE, self.head.bias, batch["targets"], products=products)

    def shown(self, features: TextFeatures, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, D) pooled vectors for the monitors: as many as rows, so that all processes have the same number."""
        return self.encoder.pooled(features).detach()[: len(batch["input_ids"])]
