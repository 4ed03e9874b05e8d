"""ELECTRA: a small generator replaces tokens, the encoder tells which (Clark et al. 2020, arXiv:2003.10555)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import ElectraConfig as GeneratorConfig
from transformers import ElectraModel

from toolkit.config import Section
from toolkit.encoders.text import LMHead, TextEncoder
from toolkit.encoders.text.packed import attention_inputs
from toolkit.objectives import text_references
from toolkit.objectives.base import Objective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.linear_cross_entropy import autocast_products, linear_cross_entropy
from toolkit.objectives.mlm import MLM, NO_SPREAD_ASKED
from toolkit.training import Step
from toolkit.training.alarms import Limit


class ElectraConfig(Section):
    """Settings of replaced-token detection."""

    name: Literal["electra"] = "electra"
    """The method."""
    discriminator_weight: float = Field(50.0, gt=0)
    """Weight of telling replaced tokens, beside the generator's 1: the paper's lambda. It is large as the mean is over
    all tokens, and over answers of yes or no."""
    generator_share: float = Field(0.25, gt=0, le=1)
    """Width of the generator relative to the encoder's; the paper found between a quarter and a half the best, as a
    stronger one leaves too little to learn from."""


def replaced_token_loss(scores_BT: Tensor, replaced_BT: Tensor, counts_BT: Tensor) -> Tensor:
    """Binary cross-entropy of whether each token was replaced, summed.

    Args:
        scores_BT: Scores, above 0 where a token is taken for replaced, (B, T).
        replaced_BT: Where a token is not the true one.
        counts_BT: Where there is a token, and no padding.

    Returns:
        A scalar that is at least float32.

    When to use:
        Where computing time is short for the size of the corpus: every token teaches something.

    Relations:
        `mlm_loss` asks which token it was, of the masked ones alone, and needs an output as wide as the vocabulary.
    """
    with torch.autocast(scores_BT.device.type, enabled=False):
        wide_BT = scores_BT.to(torch.promote_types(scores_BT.dtype, torch.float32))
        each_BT = F.binary_cross_entropy_with_logits(wide_BT, replaced_BT.to(wide_BT), reduction="none")
        return (each_BT * counts_BT).sum()


@register("electra")
class Electra(Objective):
    """The encoder tells which tokens a small masked model has put in place of the true ones.

    Batches are those of `toolkit.text.batches.MaskedBatches`. The generator is thrown away after training. It shares
    the token embeddings; positions, which the paper shares too, it has of its own, since not every encoder has vectors
    for them. A token is drawn by the batch's coin; a special one that is drawn is not put in.

    When to use:
        Where computing time is short for the size of the corpus, and the encoder will be fine-tuned.

    Relations:
        `mlm` leaves a head that predicts tokens, `start_from` goes on with it; this leaves none.

    Memory and cost:
        The generator's pass comes on top: at a quarter of the width, a sixteenth of the layers' work. The output over
        the vocabulary is as large as `mlm`'s.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    masks: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    Config: ClassVar[type[Section]] = ElectraConfig
    alarm_limits: ClassVar[Mapping[str, Limit]] = NO_SPREAD_ASKED
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            replaced_token_loss,
            text_references.replaced_tokens,
            inputs=text_references.tokens_to_tell,
            collapsed=lambda n, d: 0.0,
            summed=True,
        ),
        *MLM.claims,
    )

    maskable: Tensor

    def __init__(self, config: ElectraConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.config = config
        encoder.set_causal(False)
        self.generator = _generator(encoder, config.generator_share)
        width = self.generator.config.hidden_size
        self.generator_head = LMHead(width, encoder.embedding_size, encoder.vocab_size)
        self.discriminator_head = nn.Sequential(
            nn.Linear(encoder.hidden_size, encoder.hidden_size), nn.GELU(), nn.Linear(encoder.hidden_size, 1)
        )
        maskable = torch.zeros(encoder.vocab_size, dtype=torch.bool)
        maskable[: len(encoder.tokenizer)] = torch.from_numpy(encoder.tokenizer.maskable)
        self.register_buffer("maskable", maskable, persistent=False)

    def forward(self, batch: dict[str, Any]) -> Step:
        """The generator's mean over masked tokens plus the discriminator's weighted mean over all, as a sum over the
        masked tokens."""
        clean_BT, positions_M, targets_M = batch["clean_ids"], batch["positions"], batch["targets"]
        of_generator, drawn_M = self._generated(batch)
        drawn_M = torch.where(self.maskable[drawn_M], drawn_M, targets_M)
        ids_BT = clean_BT.flatten().scatter(0, positions_M, drawn_M).view_as(clean_BT)
        replaced_BT, counts_BT = ids_BT != clean_BT, batch["attention_mask"]

        features = self.encoder({**batch, "input_ids": ids_BT})
        scores_BT = self.discriminator_head(features.last).squeeze(2)
        of_discriminator = replaced_token_loss(scores_BT, replaced_BT, counts_BT)

        _, num_tokens, num_masked = batch["totals"]
        weight = self.config.discriminator_weight * num_masked / num_tokens
        count = len(targets_M)
        right_BT = ((scores_BT > 0) == replaced_BT) * counts_BT
        logs = {
            "generator_loss": of_generator.detach() / max(count, 1),
            "discriminator_loss": of_discriminator.detach() / counts_BT.sum(),
            "replaced_share": replaced_BT.sum() / max(count, 1),
            "discriminator_accuracy": right_BT.sum() / counts_BT.sum(),
        }
        embeddings = self.encoder.pooled(features).detach()[: len(clean_BT)]
        return Step(of_generator + weight * of_discriminator, count, logs, embeddings)

    def _generated(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The generator's loss, and a token (M,) drawn for each masked one."""
        positions_M = batch["positions"]
        embeddings_VE = self.encoder.token_embeddings
        inputs = attention_inputs(batch, self.generator, causal=False, first_position=0)
        output = self.generator(inputs_embeds=F.embedding(batch["input_ids"], embeddings_VE), **inputs)
        hidden_ME = self.generator_head(output.last_hidden_state.flatten(0, 1)[positions_M])
        return linear_cross_entropy(
            hidden_ME,
            embeddings_VE,
            self.generator_head.bias,
            batch["targets"],
            coins_M=batch["coins"].flatten()[positions_M],
            products=autocast_products(hidden_ME),
        )


def _generator(encoder: TextEncoder, share: float) -> ElectraModel:
    """A narrow transformer over the encoder's token embeddings, with as many layers and heads of the same width."""
    config = encoder.model.config
    num_heads = max(1, round(config.num_attention_heads * share))
    width = num_heads * (config.hidden_size // config.num_attention_heads)
    dropout = getattr(config, "hidden_dropout_prob", 0.0)
    generator = ElectraModel(
        GeneratorConfig(
            vocab_size=1,
            embedding_size=encoder.embedding_size,
            hidden_size=width,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * width,
            max_position_embeddings=encoder.max_length,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            type_vocab_size=1,
        )
    )
    generator.set_input_embeddings(nn.Identity())  # it is given vectors; a matrix that gets no gradient stops DDP
    return generator
