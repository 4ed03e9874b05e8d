"""A look at an encoder in training: does a vote of neighbours among a few labelled samples get better?"""

from collections.abc import Sequence

import numpy as np

from toolkit.encoders.scan import ScanEncoder
from toolkit.encoders.text import TextEncoder
from toolkit.finetune.task import Inputs, Task, select
from toolkit.splits import thin

NUM_NEIGHBOURS, TEMPERATURE = 20, 0.07


class OnlineProbe:
    """Accuracy of neighbours' votes, each sample judged by all others; test samples are never looked at.

    It follows training, and is no result: neighbours may share a subject, or a document.

    Args:
        encoder: In training, on its device.
        tasks: Their pools give the labelled samples.
        per_class: How many of each class.
        seed: Of their choice.
    """

    def __init__(
        self, encoder: ScanEncoder | TextEncoder, tasks: Sequence[Task], *, per_class: int = 32, seed: int = 0
    ) -> None:
        self._encoder = encoder
        self._sets: dict[str, tuple[Inputs, np.ndarray]] = {}
        for task in tasks:
            rows = thin(task.pool_labels, per_class, seed=seed)
            name = "_".join(filter(None, ["knn_accuracy", task.language]))
            self._sets[name] = select(task.pool, rows), task.pool_labels[rows]

    def __call__(self) -> dict[str, float]:
        """`knn_accuracy`, with the language where there is one, of each task."""
        return {name: neighbour_accuracy(self._embed(x), labels) for name, (x, labels) in self._sets.items()}

    def _embed(self, x: Inputs) -> np.ndarray:
        if isinstance(self._encoder, ScanEncoder):
            return self._encoder.embed(x, intensity=(0.0, 1.0))  # a task's patches are normalised already
        return self._encoder.embed(x)


def neighbour_accuracy(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    num_neighbours: int = NUM_NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> float:
    """Leave-one-out accuracy of the weighted k-nearest-neighbour vote of Wu et al. 2018 (arXiv:1805.01978).

    Args:
        embeddings_ND: (N, D).
        labels_N: Classes, (N,), 0 to K - 1.
        num_neighbours: Who votes, by cosine similarity.
        temperature: A vote weighs exp(similarity / temperature).
    """
    norms = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    unit_ND = embeddings_ND.astype(np.float64) / np.maximum(norms, 1e-12)
    similarity_NN = unit_ND @ unit_ND.T
    np.fill_diagonal(similarity_NN, -np.inf)
    nearest_NK = np.argsort(-similarity_NN, axis=1, kind="stable")[:, : min(num_neighbours, len(labels_N) - 1)]
    weights_NK = np.exp((np.take_along_axis(similarity_NN, nearest_NK, axis=1) - 1) / temperature)
    votes_NC = np.stack([(weights_NK * (labels_N[nearest_NK] == c)).sum(1) for c in range(labels_N.max() + 1)], axis=1)
    return float((votes_NC.argmax(axis=1) == labels_N).mean())
