"""Logistic regression on frozen features, with its strength and its features chosen on the labelled samples
alone."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from toolkit.config import Section

Features = np.ndarray | sp.csr_matrix


class ProbeConfig(Section):
    """How a probe is fitted."""

    strengths: tuple[float, ...] = (1.0, 10.0, 100.0)
    """Inverse regularisation strengths (scikit-learn's C) tried, ascending, for rows of unit mean square
    norm."""
    default_strength: float = 10.0
    """The one taken where a class has too few labels to cross-validate."""
    min_labels_to_choose: int = 4
    """Labels of the smallest class from which cross-validation chooses; below, the default and the first
    variant."""
    num_folds: int = 4
    """Folds of the cross-validation."""


def centre(pool: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes the pool's mean off dense features and scales them as a whole, to a mean square norm of one.

    Directions of large variance stay large: a prior that suits principal components and most embeddings. The
    common scale makes one range of regularisation strengths fit features of any dimension.

    Args:
        pool: Features of all samples that may be labelled, (N, D); their labels are not used.
        test: Features of the test samples, (M, D). Nothing is learnt from them.

    Returns:
        Both, transformed alike, float32.
    """
    mean = pool.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(((pool - mean) ** 2).sum(axis=1).mean()) or 1.0
    return ((pool - mean) / scale).astype(np.float32), ((test - mean) / scale).astype(np.float32)


def standardise(pool: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `centre`, with each dimension first divided by its deviation over the pool; constant ones are
    dropped."""
    deviation = pool.std(axis=0, dtype=np.float64)
    informative = deviation > 1e-6 * deviation.max(initial=0.0)
    if not informative.any():
        return centre(pool, test)
    return centre(pool[:, informative] / deviation[informative], test[:, informative] / deviation[informative])


def scalings(variants: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[Features, Features]]:
    """Dense features in both scalings that a probe may choose from: all centred ones first, then the
    standardised."""
    scaled: dict[str, tuple[Features, Features]] = {name: centre(*pair) for name, pair in variants.items()}
    return scaled | {f"{name} standardised".strip(): standardise(*pair) for name, pair in variants.items()}


class Probe:
    """Multinomial logistic regression whose strength and feature variant come from cross-validation on the
    labels.

    Only the labelled samples take part in a choice; the test features are used for nothing but the
    prediction. The fit is exact but cheap: with fewer labels than dimensions it runs in the span of the
    labelled rows, where an L2 penalty has the same solution (the representer theorem: Kimeldorf & Wahba,
    1971).

    Args:
        config: How to fit.
    """

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self.config = config or ProbeConfig()

    def fit_predict(
        self,
        labelled: Mapping[str, Features],
        labels: np.ndarray,
        test: Mapping[str, Features],
        num_classes: int,
    ) -> np.ndarray:
        """Probabilities of the test samples.

        Args:
            labelled: Features of the labelled samples by variant, each (n, D); the first one is the default.
            labels: Their classes, (n,).
            test: Features of the test samples, by the same names, each (M, D).
            num_classes: K.

        Returns:
            (M, K) float32; a class without labels has probability 0.
        """
        spans = {name: _span(labelled[name], test[name]) for name in labelled}
        variant, strength = self._choose({name: rows for name, (rows, _) in spans.items()}, labels)
        rows, test_rows = spans[variant]
        model = _model(strength, tolerance=1e-4).fit(rows, labels)
        probabilities = np.zeros((len(test_rows), num_classes), dtype=np.float32)
        probabilities[:, model.classes_] = model.predict_proba(test_rows)
        return probabilities

    def _choose(self, variants: Mapping[str, np.ndarray], labels: np.ndarray) -> tuple[str, float]:
        config = self.config
        smallest = np.unique(labels, return_counts=True)[1].min()
        if smallest < config.min_labels_to_choose or (len(variants) == 1 and len(config.strengths) == 1):
            return next(iter(variants)), config.default_strength
        folds = list(StratifiedKFold(min(config.num_folds, smallest)).split(labels, labels))
        losses = {}
        for name, rows in variants.items():
            for train, held_out in folds:
                model = _model(config.strengths[0], tolerance=1e-3, warm_start=True)
                for strength in config.strengths:  # from strong to weak: each solution starts the next
                    model.set_params(C=strength).fit(rows[train], labels[train])
                    loss = log_loss(labels[held_out], model.predict_proba(rows[held_out]), labels=model.classes_)
                    losses[name, strength] = losses.get((name, strength), 0.0) + loss
        return min(losses, key=losses.__getitem__)


def _model(strength: float, tolerance: float, warm_start: bool = False) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300, tol=tolerance, warm_start=warm_start)


def _span(labelled: Features, test: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both in an orthonormal basis of the labelled rows' span, where those have fewer rows than columns."""
    if labelled.shape[0] >= labelled.shape[1]:
        return tuple(x.toarray() if sp.issparse(x) else np.asarray(x, dtype=np.float64) for x in (labelled, test))
    gram, cross = labelled @ labelled.T, test @ labelled.T
    gram, cross = (np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float64) for x in (gram, cross))
    variances, basis = np.linalg.eigh(gram)
    kept = variances > 1e-6 * variances[-1]
    scales = np.sqrt(variances[kept])
    return basis[:, kept] * scales, cross @ basis[:, kept] / scales
