"""The metrics against scikit-learn's own, and where classes are absent."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from toolkit.finetune.metrics import METRICS, score


def _probabilities(seed: int, num_tests: int, num_classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), size=num_tests)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_they_are_scikit_learns(num_classes: int) -> None:
    labels = np.arange(90) % num_classes
    probabilities = _probabilities(0, 90, num_classes)
    scores = score(labels, probabilities)
    assert tuple(scores) == METRICS
    predicted = probabilities.argmax(axis=1)
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    expected = roc_auc_score(labels, probabilities[:, 1] if num_classes == 2 else probabilities, multi_class="ovr")
    assert scores["auroc"] == pytest.approx(expected)


def test_a_class_without_tests_is_left_out_of_averages() -> None:
    labels = np.array([0, 0, 2, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    scores = score(labels, probabilities)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)  # recall of 0 is a half, its precision 1
    assert scores["auroc"] == 1.0


def test_one_class_alone_has_no_curve() -> None:
    assert np.isnan(score(np.zeros(3, dtype=int), _probabilities(1, 3, 2))["auroc"])


def test_a_class_never_predicted_counts_as_missed() -> None:
    scores = score(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    assert scores["macro_f1"] == pytest.approx(1 / 3) and scores["auroc"] == 1.0
