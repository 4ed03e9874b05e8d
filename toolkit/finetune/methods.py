"""What a study compares: the two kinds of method."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from toolkit.finetune.probe import Features
from toolkit.finetune.task import Inputs, Task

BASELINES = ("raw", "pca", "kmeans", "random", "scratch")
"""The methods that *best baseline* is the best of; position and external are reference lines, majority is
chance."""


class Classifier(Protocol):
    """Learns from labelled rows and predicts test rows; must pickle, and be a pure function of its
    arguments."""

    def fit_predict(
        self,
        labelled: Mapping[str, Features],
        labels: np.ndarray,
        test: Mapping[str, Features],
        num_classes: int,
    ) -> np.ndarray:
        """Probabilities (M, K) from variants of labelled rows (n, D) and of test rows (M, D)."""
        ...


class FeatureMethod(Protocol):
    """Features that are computed once a task, and a cheap classifier for each cell of the study.

    Attributes:
        name: As in `results.csv`.
        pretraining: What its features were pretrained by, "none" for nothing.
        classifier: What is fitted on the labelled rows of each draw.
    """

    name: str
    pretraining: str
    classifier: Classifier

    def fingerprint(self) -> str:
        """Text that changes when the method would give other features."""
        ...

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Features of the pool and of the test by variant; the first variant is the default."""
        ...


class TrainedMethod(Protocol):
    """A network that is trained anew in each cell; must pickle.

    Attributes:
        name: As in `results.csv`.
        pretraining: What its start was pretrained by, "none" for random weights.
    """

    name: str
    pretraining: str

    def fingerprint(self) -> str:
        """Text that changes when the method would predict otherwise."""
        ...

    def fit_predict(
        self, labelled: Inputs, labels: np.ndarray, test: Inputs, num_classes: int, seed: int
    ) -> np.ndarray:
        """Probabilities of the test samples, (M, K); a pure function of the arguments."""
        ...
