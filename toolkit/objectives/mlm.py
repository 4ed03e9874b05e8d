"""Masked language modelling (Devlin et al., 2019, arXiv:1810.04805), the output head on masked positions
only."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.text import TextEncoder
from toolkit.objectives.base import Objective, register
from toolkit.training import Step
from toolkit.training.alarms import Limit


class MLMConfig(Section):
    """Settings of masked language modelling. How much is masked is a matter of the batches."""

    name: Literal["mlm"] = "mlm"
    """The method."""


def mlm_loss(hidden_MH: Tensor, embeddings_VH: Tensor, bias_V: Tensor, targets_M: Tensor) -> Tensor:
    """Cross-entropy of the true tokens at the masked positions, summed.

    Args:
        hidden_MH: Transformed hidden states at the masked positions alone, (M, H). The head is by far the
            largest matrix: on 15 % of the positions it costs a seventh of what it costs on all.
        embeddings_VH: Input token embeddings, tied as output weights (Press & Wolf, 2017), (V, H).
        bias_V: Output bias, (V,).
        targets_M: True ids, (M,).

    Returns:
        Sum over the M positions, a scalar; 0 where M is 0. Divide by the *global* number of masked tokens.

    When to use:
        The default for text. With few steps start the token embeddings from `toolkit.text.spectral`.

    Relations:
        With minutes rather than hours to train, `halves` gives better pooled vectors.
    """
    logits_MV = F.linear(hidden_MH, embeddings_VH, bias_V)
    wide_MV = logits_MV.to(torch.promote_types(logits_MV.dtype, torch.float32))
    return F.cross_entropy(wide_MV, targets_M, reduction="sum")


class MaskedHead(nn.Module):
    """Dense, GELU and layer norm before the tied output weights.

    Args:
        hidden_size: H.
        vocab_size: V.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.LayerNorm(hidden_size, eps=1e-12)
        )
        self.bias = nn.Parameter(self.transform[0].weight.new_zeros(vocab_size))

    def forward(self, hidden_MH: Tensor, embeddings_VH: Tensor, targets_M: Tensor) -> Tensor:
        """`mlm_loss` of hidden states (M, H) as they leave the encoder."""
        return mlm_loss(self.transform(hidden_MH), embeddings_VH, self.bias, targets_M)


@register("mlm")
class MLM(Objective):
    """A text encoder and a masked-token head.

    Batches are those of `toolkit.text.batches.MaskedBatches`.
    """

    modality: ClassVar[Literal["scans", "text"]] = "text"
    Config: ClassVar[type[Section]] = MLMConfig
    # Nothing here asks pooled vectors to spread: 0.11 in a healthy run.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"embedding_std": Limit(), "effective_rank": Limit()}

    def __init__(self, config: MLMConfig, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.head = MaskedHead(encoder.hidden_size, len(encoder.tokenizer))

    def forward(self, batch: dict[str, Any]) -> Step:
        """Loss summed over the masked tokens, whose number is the count."""
        features = self.encoder(batch)
        masked_MH = features.last.flatten(0, 1)[batch["positions"]]
        embeddings_VH = self.encoder.model.get_input_embeddings().weight
        loss = self.head(masked_MH, embeddings_VH, batch["targets"])
        return Step(loss_sum=loss, count=len(batch["targets"]), embeddings=self.encoder.pooled(features).detach())
