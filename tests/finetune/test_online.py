"""The neighbours' vote against scikit-learn, and that it looks at the pool alone."""

import numpy as np
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from toolkit.finetune.online import neighbour_accuracy


def test_the_vote_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    x = rng.normal(size=(60, 5)) + labels[:, None]
    classifier = KNeighborsClassifier(
        7, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
    )
    expected = (cross_val_predict(classifier, x, labels, cv=LeaveOneOut()) == labels).mean()
    assert neighbour_accuracy(x, labels, 7, 0.07) == expected
    assert 0.4 < expected < 1


def test_a_sample_does_not_vote_for_itself() -> None:
    assert neighbour_accuracy(np.eye(2), np.array([0, 1])) == 0
