"""Causal language modelling: each token from those before it (Radford et al. 2018, "Improving Language Understanding
by Generative Pre-Training")."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from toolkit.config import Section
from toolkit.encoders.text import TextEncoder
from toolkit.objectives import text_references
from toolkit.objectives.base import Objective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.linear_cross_entropy import autocast_products
from toolkit.objectives.mlm import NO_SPREAD_ASKED, mlm_loss
from toolkit.training import Step
from toolkit.training.alarms import Limit


class CLMConfig(Section):
    """Settings of causal language modelling."""

    name: Literal["clm"] = "clm"
    """The method."""


def next_token_loss(
    hidden_BTE: Tensor,
    embeddings_VE: Tensor,
    bias_V: Tensor,
    ids_BT: Tensor,
    documents_BT: Tensor,
    *,
    products: torch.dtype | None = None,
) -> Tensor:
    """Cross-entropy of each token given those before it, summed.

    Args:
        hidden_BTE: Transformed hidden states, (B, T, E): those at t have seen no token after t.
        embeddings_VE: Input token embeddings, tied as output weights, (V, E).
        bias_V: Output bias, (V,).
        ids_BT: Token ids.
        documents_BT: Which document each token belongs to, -1 for padding. Nothing predicts a document's first token.
        products: In which type matrices are multiplied; at least float32 if not given.

    Returns:
        Sum over the `num_next_tokens` tokens, a scalar.

    When to use:
        True likelihoods of whole texts (bits per character); or before `mlm`: first causal, then masked was better than
        masked alone at equal cost (Gisserot-Boukhlef et al. 2025, arXiv:2507.00994).

    Relations:
        `mlm_loss` of every token but the first, with half of the context. It learns from all tokens, where masked
        modelling learns from 15 to 30 % of them.
    """
    has_next_BT = _has_next(documents_BT)
    hidden_ME, targets_M = hidden_BTE[:, :-1][has_next_BT], ids_BT[:, 1:][has_next_BT]
    return mlm_loss(hidden_ME, embeddings_VE, bias_V, targets_M, products=products)


def num_next_tokens(documents_BT: Tensor) -> int:
    """How many tokens `next_token_loss` predicts; a GPU is waited for, as by the loss."""
    return int(_has_next(documents_BT).sum())


def documents_of(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, T) which document each token belongs to, -1 for padding; rows are documents where nothing else is said."""
    if "documents" in batch:
        return batch["documents"]
    return batch["attention_mask"] - 1


@register("clm")
class CLM(Objective):
    """A text encoder that sees no later token, and a head for the next one, which stays with the encoder.

    Batches are those of `toolkit.text.batches.MaskedBatches`; of these, `clean_ids`. The encoder stays causal, when it
    embeds and when `AutoModel` opens it, until a method that sees both sides trains it.

    When to use:
        For likelihoods, and as a first stage before `mlm`.

    Relations:
        For embeddings `mlm` sees both sides, and is better at equal size.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    packs: ClassVar[bool] = True
    Config: ClassVar[type[Section]] = CLMConfig
    alarm_limits: ClassVar[Mapping[str, Limit]] = NO_SPREAD_ASKED
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            next_token_loss,
            text_references.next_tokens,
            inputs=text_references.texts_to_continue,
            shared=(1, 2),
            summed=True,
        ),
    )

    def __init__(self, config: CLMConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        encoder.set_causal(True)
        self.head = encoder.take_lm_head()

    def forward(self, batch: dict[str, Any]) -> Step:
        """Loss summed over all tokens but the first of each document."""
        ids_BT, documents_BT = batch["clean_ids"], documents_of(batch)
        features = self.encoder({**batch, "input_ids": ids_BT})
        hidden_BTE = self.head(features.last)
        loss = next_token_loss(
            hidden_BTE,
            self.encoder.token_embeddings,
            self.head.bias,
            ids_BT,
            documents_BT,
            products=autocast_products(hidden_BTE),
        )
        embeddings = self.encoder.pooled(features).detach()[: len(ids_BT)]
        return Step(loss_sum=loss, count=num_next_tokens(documents_BT), embeddings=embeddings)


def _has_next(documents_BT: Tensor) -> Tensor:
    """(B, T - 1)."""
    return (documents_BT[:, :-1] == documents_BT[:, 1:]) & (documents_BT[:, 1:] >= 0)
