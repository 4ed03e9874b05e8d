"""Attention over the slices of a patch, learnt from the few labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.finetune.probe import Features
from toolkit.finetune.trained import one_thread, probe_head


class SliceAttentionConfig(Section):
    """How slices are weighed."""

    hidden_size: int = Field(32, gt=0)
    """Width of the layer that scores a slice."""
    strength: float = Field(10.0, gt=0)
    """Inverse of the L2 penalty (scikit-learn's C) on the classifier, as in the probe."""
    attention_strength: float = Field(0.3, gt=0)
    """The same of the weights that score a slice. With 10 it was worse than the plain mean on an untrained encoder
    (.33 and .36 at 5 labels, .43 and .46 at 20); from .03 to 1 it was better (.38, .46)."""
    num_steps: int = Field(100, gt=0)
    """Iterations of L-BFGS at most."""


@dataclass(frozen=True)
class SliceAttention:
    """A linear classifier on a weighted mean of slices, the weights by a small network of each slice.

    Source: Ilse, Tomczak & Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018, equation 8. It starts
    as a probe on the plain mean, with equal weights; all of it is then fitted to the probe's own loss.

    Attributes:
        config: How to fit.
    """

    config: SliceAttentionConfig = field(default_factory=SliceAttentionConfig)

    def fit_predict(
        self,
        labelled: Mapping[str, Features],
        labels: np.ndarray,
        test: Mapping[str, Features],
        num_classes: int,
    ) -> np.ndarray:
        """Probabilities (M, K) from slices of labelled samples, (n, S, D), and of test samples, (M, S, D)."""
        rows, test_rows = (np.asarray(part[""], np.float32) for part in (labelled, test))
        with one_thread(seed=0):
            head = probe_head(rows.mean(axis=1), labels, num_classes)
            model = _Attention(rows.shape[2], self.config.hidden_size, head)
            _fit(model, torch.from_numpy(rows), torch.from_numpy(np.asarray(labels, np.int64)), self.config)
            with torch.no_grad():
                return model(torch.from_numpy(test_rows)).softmax(dim=1).numpy()


class _Attention(nn.Module):
    def __init__(self, dim: int, hidden_size: int, head: nn.Linear) -> None:
        super().__init__()
        self.hidden, self.score, self.head = nn.Linear(dim, hidden_size), nn.Linear(hidden_size, 1, bias=False), head
        nn.init.zeros_(self.score.weight)  # all slices alike

    def forward(self, slices_NSD: Tensor) -> Tensor:
        weights_NS1 = self.score(self.hidden(slices_NSD).tanh()).softmax(dim=1)
        return self.head((weights_NS1 * slices_NSD).sum(dim=1))


def _fit(model: _Attention, slices_NSD: Tensor, labels: Tensor, config: SliceAttentionConfig) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=config.num_steps, line_search_fn="strong_wolfe")
    strengths = {
        model.head.weight: config.strength,
        model.score.weight: config.attention_strength,
        model.hidden.weight: config.attention_strength,
    }

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = sum(weight.square().sum() / (2 * strength) for weight, strength in strengths.items())
        value = (nn.functional.cross_entropy(model(slices_NSD), labels, reduction="sum") + penalty) / len(labels)
        value.backward()
        return value

    optimizer.step(loss)
