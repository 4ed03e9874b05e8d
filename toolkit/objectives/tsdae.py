"""TSDAE: the whole text from the pooled vector of what is left of it (Wang et al. 2021, arXiv:2104.06979)."""

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.text import PoolingConfig, TextEncoder
from toolkit.objectives.base import Objective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.clm import CLM, documents_of, next_token_loss, num_next_tokens
from toolkit.objectives.kept_tokens import kept_tokens
from toolkit.objectives.linear_cross_entropy import autocast_products
from toolkit.text.masking import WordBoundaries
from toolkit.training import Step
from toolkit.training.alarms import Limit

LAST = PoolingConfig(layers=(-1,))


class TSDAEConfig(Section):
    """Settings of the denoising autoencoder."""

    name: Literal["tsdae"] = "tsdae"
    """The method."""
    deleted_share: float = Field(0.6, gt=0, lt=1)
    """Share of the words that the encoder does not see; the paper found 0.6 the best."""


class Decoder(nn.Module):
    """One causal transformer layer that sees the words before, and of the text nothing but its pooled vector.

    It is weak on purpose: what it cannot guess the vector has to hold. The paper has as many layers as the encoder, and
    their weights are the encoder's.

    Args:
        width: E, of the token embeddings.
        pooled_dim: D, of the pooled vector.
        num_heads: Of attention.
        vocab_size: V.
        max_length: The most tokens of a text.
    """

    def __init__(self, width: int, pooled_dim: int, num_heads: int, vocab_size: int, max_length: int) -> None:
        super().__init__()
        self.condition = nn.Sequential(nn.Linear(pooled_dim, width), nn.LayerNorm(width))
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width)
        self.layer = nn.TransformerDecoderLayer(
            width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, embedded_BTE: Tensor, pooled_BD: Tensor) -> Tensor:
        """(B, T, E) what is compared with the token embeddings to predict the tokens that follow.

        Args:
            embedded_BTE: Embeddings of the whole text's tokens.
            pooled_BD: The vectors of what was left of the texts.
        """
        length = embedded_BTE.shape[1]
        input_BTE = self.norm(embedded_BTE + self.positions.weight[:length])
        later_TT = torch.ones(length, length, dtype=torch.bool, device=embedded_BTE.device).triu(1)
        decoded: Tensor = self.layer(input_BTE, self.condition(pooled_BD)[:, None], tgt_mask=later_TT)
        return decoded


def words_kept(
    ids_BT: Tensor, coins_BT: Tensor, boundaries: tuple[Tensor, Tensor, Tensor], deleted_share: float
) -> Tensor:
    """Which tokens are left when words are deleted.

    Args:
        ids_BT: Token ids with start, end and padding.
        coins_BT: Uniform draws in [0, 1): a word has its first token's, and is kept from `deleted_share` on.
        boundaries: `opens`, `closes` and `maskable` of `toolkit.text.masking.WordBoundaries`.
        deleted_share: Chance of each word to be deleted.

    Returns:
        (B, T), False at special tokens. Of a text with words at least one is left, the one with the largest coin.
    """
    opens_V, closes_V, maskable_V = boundaries
    in_text_BT = maskable_V[ids_BT]
    starts_BT = opens_V[ids_BT]
    starts_BT[:, 1:] |= closes_V[ids_BT[:, :-1]] | ~in_text_BT[:, :-1]
    places_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
    first_BT = torch.where(starts_BT, places_BT, 0).cummax(dim=1).values
    coin_BT = coins_BT.gather(1, first_BT).masked_fill(~in_text_BT, -1)
    largest_B1 = coin_BT.amax(dim=1, keepdim=True)
    return in_text_BT & (coin_BT >= largest_B1.clamp(max=deleted_share))


@register("tsdae")
class TSDAE(Objective):
    """An encoder sees some of a text's words, a decoder writes down all of them from their pooled vector.

    Batches are those of `toolkit.text.batches.MaskedBatches`; of these, `clean_ids` and `coins`. The decoder is thrown
    away after training.

    When to use:
        After masked modelling, for embeddings of sentences in a domain of one's own, where no pairs are known.

    Relations:
        `simcse` and `halves` compare texts with each other and need large batches; this does not. `clm` predicts the
        same tokens without a vector.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    Config: ClassVar[type[Section]] = TSDAEConfig
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"embedding_std": Limit(), "effective_rank": Limit()}
    claims: ClassVar[tuple[Claim, ...]] = CLM.claims

    opens: Tensor
    closes: Tensor
    maskable: Tensor

    def __init__(self, config: TSDAEConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.config = config
        tokenizer, width = encoder.tokenizer, encoder.embedding_size
        num_heads = gcd(encoder.model.config.num_attention_heads, width)
        self.decoder = Decoder(width, encoder.dim_of(LAST), num_heads, encoder.vocab_size, encoder.max_length)
        boundaries = WordBoundaries.of(tokenizer)
        for name in ("opens", "closes", "maskable"):
            self.register_buffer(name, torch.from_numpy(getattr(boundaries, name)), persistent=False)
        self.special = tokenizer.special

    def forward(self, batch: dict[str, Any]) -> Step:
        """Loss summed over all tokens but the start."""
        ids_BT = batch["clean_ids"]
        boundaries = self.opens, self.closes, self.maskable
        kept_BT = words_kept(ids_BT, batch["coins"], boundaries, self.config.deleted_share)
        kept_BT |= (ids_BT == self.special.bos) | (ids_BT == self.special.eos)
        pooled_BD = self.encoder.pooled(self.encoder(kept_tokens(ids_BT, kept_BT, self.special.pad)), LAST)

        embeddings_VE = self.encoder.token_embeddings
        decoded_BTE = self.decoder(nn.functional.embedding(ids_BT, embeddings_VE), pooled_BD)
        documents_BT = documents_of(batch)
        products = autocast_products(decoded_BTE)
        loss = next_token_loss(decoded_BTE, embeddings_VE, self.decoder.bias, ids_BT, documents_BT, products=products)
        return Step(loss_sum=loss, count=num_next_tokens(documents_BT), embeddings=pooled_BD.detach())
