"""What a study compares: the two kinds of method, and the frozen encoders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from toolkit.finetune.probe import Features, Probe, centre, standardise
from toolkit.finetune.task import Inputs, Task

BASELINES = ("raw", "pca", "kmeans", "random", "scratch")
"""The methods that *best baseline* is the best of; position and external are reference lines, majority is chance."""


class Classifier(Protocol):
    """Learns from labelled rows and predicts test rows; must pickle, and be a pure function of its arguments."""

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


@dataclass
class FrozenFeatures:
    """A probe on features that some function computes: an encoder's embeddings, or anything a user has.

    Attributes:
        name: As in `results.csv`.
        pretraining: What the features were pretrained by.
        embed: Inputs to an array (N, D), or to several such arrays by variant, the default first.
        identity: Text that changes when `embed` would give other values.
        classifier: What is fitted on the labelled rows.
    """

    name: str
    pretraining: str
    embed: Callable[[Inputs], np.ndarray | Mapping[str, np.ndarray]]
    identity: str
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """`identity`."""
        return self.identity

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Each variant twice: centred only, and standardised."""
        pool, test = (as_variants(self.embed(inputs)) for inputs in (task.pool, task.test))
        return scalings({name: (pool[name], test[name]) for name in pool})


def as_variants(features: np.ndarray | Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Features by variant, where there may be one only."""
    return features if isinstance(features, Mapping) else {"": features}


def scalings(variants: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[Features, Features]]:
    """Dense features in both scalings that a probe may choose from: all centred ones first, then the standardised."""
    scaled: dict[str, tuple[Features, Features]] = {name: centre(*pair) for name, pair in variants.items()}
    return scaled | {f"{name} standardised".strip(): standardise(*pair) for name, pair in variants.items()}
