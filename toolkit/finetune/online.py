"""A look at an encoder in training: does a vote of neighbours among a few labelled samples get better?"""

from collections.abc import Hashable, Sequence

import numpy as np

from toolkit.encoders.scan import ScanEncoder
from toolkit.encoders.text import TextEncoder
from toolkit.errors import DataError
from toolkit.finetune.task import Inputs, Task, select
from toolkit.scans import PatchBatches
from toolkit.splits import thin
from toolkit.splits.groups import codes

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


class LabelledScans:
    """The scans of a manifest whose label is known, for a look at the encoder that learns from all of them.

    Args:
        labels: Label of each scan, "" where it has none.
        subjects: Whose each scan is. A label of one subject alone is left out: nobody could vote for it.
        per_class: How many scans of each label.
        seed: Of their choice.

    Attributes:
        rows: The chosen scans.
        labels: Their classes, 0 to K - 1.
        subjects: Whose they are.

    Raises:
        DataError: There are not two labels with two subjects each.
    """

    def __init__(
        self, labels: Sequence[str], subjects: Sequence[Hashable], *, per_class: int = 32, seed: int = 0
    ) -> None:
        by_label: dict[str, set[Hashable]] = {}
        for label, subject in zip(labels, subjects, strict=True):
            by_label.setdefault(label, set()).add(subject)
        names = sorted(label for label, whose in by_label.items() if label and len(whose) > 1)
        if len(names) < 2:
            raise DataError(
                "training.evaluate_every: a look needs two labels of two subjects each, and the manifest has "
                f"{len(names)}; link some with `fewlabel data audit --link`, or leave it empty"
            )
        known = np.array([row for row, label in enumerate(labels) if label in names])
        classes = np.array([names.index(labels[row]) for row in known])
        chosen = thin(classes, per_class, seed=seed)
        self.rows, self.labels = known[chosen], classes[chosen]
        self.subjects = [subjects[row] for row in self.rows]


class ScanVote:
    """Accuracy of neighbours' votes on the labels of scans, each judged by those of other subjects.

    It follows training, and is no result: the encoder learns from these very scans, though not from their labels.

    Args:
        encoder: In training, on its device.
        batches: What it learns from; a scan is the mean over its first crops, as they lie in the scan.
        scans: Which of them.
        crops_per_scan: How many.
    """

    def __init__(
        self, encoder: ScanEncoder, batches: PatchBatches, scans: LabelledScans, *, crops_per_scan: int = 8
    ) -> None:
        self._encoder, self._batches, self._scans = encoder, batches, scans
        # With more voters than a class has members, the others outvote it however near it lies.
        self._num_neighbours = min(NUM_NEIGHBOURS, max(1, int(np.bincount(scans.labels).min()) // 2))
        samples_per_scan = batches.num_samples // len(batches.volumes)
        first = np.arange(min(crops_per_scan, samples_per_scan))
        self._samples = [row * samples_per_scan + first for row in scans.rows]

    def __call__(self) -> dict[str, float]:
        """`knn_accuracy`."""
        crops = map(self._batches.originals, self._samples)
        means_ND = np.stack([self._encoder.embed(crop, intensity=(0.0, 1.0)).mean(axis=0) for crop in crops])
        found = neighbour_accuracy(means_ND, self._scans.labels, self._num_neighbours, groups=self._scans.subjects)
        return {"knn_accuracy": found}


def neighbour_accuracy(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    num_neighbours: int = NUM_NEIGHBOURS,
    temperature: float = TEMPERATURE,
    groups: Sequence[Hashable] | None = None,
) -> float:
    """Leave-one-out accuracy of the weighted k-nearest-neighbour vote of Wu et al. 2018 (arXiv:1805.01978).

    Args:
        embeddings_ND: (N, D).
        labels_N: Classes, (N,), 0 to K - 1.
        num_neighbours: Who votes, by cosine similarity.
        temperature: A vote weighs exp(similarity / temperature).
        groups: Whose each row is; none of one's own group votes. By default each row is a group.
    """
    norms = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    unit_ND = embeddings_ND.astype(np.float64) / np.maximum(norms, 1e-12)
    similarity_NN = unit_ND @ unit_ND.T
    codes_N = codes(range(len(labels_N)) if groups is None else groups)
    similarity_NN[codes_N[:, None] == codes_N] = -np.inf  # a weight of 0, should it be among the nearest
    nearest_NK = np.argsort(-similarity_NN, axis=1, kind="stable")[:, : min(num_neighbours, len(labels_N) - 1)]
    weights_NK = np.exp((np.take_along_axis(similarity_NN, nearest_NK, axis=1) - 1) / temperature)
    votes_NC = np.stack([(weights_NK * (labels_N[nearest_NK] == c)).sum(1) for c in range(labels_N.max() + 1)], axis=1)
    return float((votes_NC.argmax(axis=1) == labels_N).mean())
