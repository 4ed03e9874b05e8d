"""Accuracy, macro-F1 and AUROC from predicted probabilities."""

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

METRICS = ("accuracy", "macro_f1", "auroc")


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The study's metrics by name.

    Macro averages go over the classes that the test set has, for every method alike: a class without test
    samples has no recall and no ROC curve.

    Args:
        labels: True classes, (M,), 0 to K - 1.
        probabilities: Predicted probabilities, (M, K).

    Returns:
        `accuracy`; `macro_f1` (scikit-learn's macro average); `auroc`, one class against the rest, averaged
        (Provost & Domingos, 2000), NaN when the test set has one class only.
    """
    present = np.unique(labels)
    predicted = probabilities.argmax(axis=1)
    curves = [roc_auc_score(labels == c, probabilities[:, c]) for c in present] if len(present) > 1 else [np.nan]
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0)),
        "auroc": float(np.mean(curves)),
    }
