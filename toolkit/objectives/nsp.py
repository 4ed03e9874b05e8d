"""Next-segment prediction beside masked modelling (Devlin et al. 2019, arXiv:1810.04805)."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.encoders.text import TextEncoder
from toolkit.objectives import text_references
from toolkit.objectives.base import register
from toolkit.objectives.certify import Claim
from toolkit.objectives.mlm import MLM
from toolkit.text.pairs import Pairing
from toolkit.training import Step


class NSPConfig(Section):
    """Settings of next-segment prediction."""

    name: Literal["nsp"] = "nsp"
    """The method."""
    pair_weight: float = Field(1.0, gt=0)
    """Weight of the question about the pair, beside masked modelling's 1; the paper adds both up."""


def pair_loss(scores_B2: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of the answer to a question of yes or no, summed.

    Args:
        scores_B2: Scores of both answers, (B, 2).
        labels_B: The true ones, 0 or 1, (B,).

    Returns:
        Sum over the B pairs, a scalar that is at least float32.

    When to use:
        Beside `mlm_loss`, for encoders that will compare texts.

    Relations:
        RoBERTa (Liu et al. 2019, arXiv:1907.11692) found that it can do without; `sop` asks the harder question.
    """
    with torch.autocast(scores_B2.device.type, enabled=False):
        wide_B2 = scores_B2.to(torch.promote_types(scores_B2.dtype, torch.float32))
        return F.cross_entropy(wide_B2, labels_B, reduction="sum")


@register("nsp")
class NSP(MLM):
    """Masked modelling of two segments, and whether the second follows the first; half of them come from elsewhere.

    Batches are those of `toolkit.text.pairs` with next segments. A segment from elsewhere is in the same language, or
    the question would be which language it is.

    When to use:
        Where a classifier will be asked about pairs of texts (does this answer that, does this follow from that).

    Relations:
        `sop` takes both segments from one text, so that their topic does not tell.
    """

    pairing: Pairing | None = "next_segment"
    packs: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = NSPConfig
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            pair_loss,
            text_references.answers,
            inputs=text_references.scores_of_two,
            collapsed=text_references.answers_collapsed,
            summed=True,
        ),
        *MLM.claims,
    )

    def __init__(self, config: Any, encoder: TextEncoder) -> None:
        super().__init__(config, encoder)
        self.config = config
        width = encoder.hidden_size
        self.answer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, batch: dict[str, Any]) -> Step:
        """The mean over masked tokens plus the weighted mean over pairs, as a sum over the masked tokens."""
        features = self.encoder(batch)
        labels_B = batch["labels"]
        scores_B2 = self.answer(features.last[:, 0])
        of_tokens, of_pairs = self.masked_loss(features, batch), pair_loss(scores_B2, labels_B)
        num_texts, _, num_masked = batch["totals"]
        count = len(batch["targets"])
        logs = {
            "token_loss": of_tokens.detach() / max(count, 1),
            "pair_loss": of_pairs.detach() / len(labels_B),
            "pair_accuracy": (scores_B2.argmax(dim=1) == labels_B).float().mean(),
        }
        loss = of_tokens + self.config.pair_weight * of_pairs * (num_masked / num_texts)
        return Step(loss_sum=loss, count=count, logs=logs, embeddings=self.shown(features, batch))
