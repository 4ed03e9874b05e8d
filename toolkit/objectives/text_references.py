"""`references` for texts: formulas of losses over tokens, in plain NumPy and float64."""

import math

import numpy as np

from toolkit.objectives.references import Arrays, log_of_sum


def tokens_to_predict(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Hidden states (n, d), embeddings of seven tokens, their bias, and true ids (n,)."""
    return rng.normal(size=(n, d)), rng.normal(size=(7, d)), rng.normal(size=7), rng.integers(7, size=n)


def tokens_to_tell(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Scores (n, d) of tokens, whether each was replaced, and whether it counts."""
    return rng.normal(size=(n, d)), rng.integers(2, size=(n, d)), rng.integers(2, size=(n, d))


def texts_to_continue(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Hidden states (n, 4, d), embeddings of seven tokens, their bias, ids (n, 4), and each token's document, -1 none.

    A row holds two documents of two tokens, or one of two or three tokens.
    """
    documents = np.array([[0, 0, 1, 1], [2, 2, 2, -1], [3, 3, -1, -1]])[np.arange(n) % 3]
    hidden, ids = rng.normal(size=(n, 4, d)), rng.integers(7, size=(n, 4))
    return hidden, rng.normal(size=(7, d)), rng.normal(size=7), ids, documents


def scores_of_two(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Scores (n, 2) of two answers, and the true ones (n,)."""
    return rng.normal(size=(n, 2)), rng.integers(2, size=n)


def masked_tokens(hidden: np.ndarray, embeddings: np.ndarray, bias: np.ndarray, targets: np.ndarray) -> float:
    """Devlin et al. 2019, section 3.1: minus the log-likelihood of the true tokens, summed."""
    total = 0.0
    for h, true in zip(hidden, targets, strict=True):
        logits = [float(h @ e) + float(b) for e, b in zip(embeddings, bias, strict=True)]
        total += log_of_sum(logits) - logits[true]
    return total


def masked_tokens_collapsed(n: int, d: int) -> float:
    """Seven tokens that are alike, n times."""
    return n * math.log(7)


def next_tokens(
    hidden: np.ndarray, embeddings: np.ndarray, bias: np.ndarray, ids: np.ndarray, documents: np.ndarray
) -> float:
    """Minus the log-likelihood of each token given those before it in its document, summed."""
    total = 0.0
    for row, tokens, document in zip(hidden, ids, documents, strict=True):
        for t in range(len(tokens) - 1):
            if document[t] == document[t + 1] >= 0:
                total += masked_tokens(row[t : t + 1], embeddings, bias, tokens[t + 1 : t + 2])
    return total


def answers(scores: np.ndarray, true: np.ndarray) -> float:
    """Minus the log-likelihood of the true answers, summed."""
    return float(sum(log_of_sum(list(s)) - s[answer] for s, answer in zip(scores, true, strict=True)))


def answers_collapsed(n: int, d: int) -> float:
    """Two answers that are alike, n times."""
    return n * math.log(2)


def replaced_tokens(scores: np.ndarray, replaced: np.ndarray, counts: np.ndarray) -> float:
    """Clark et al. 2020, section 2: minus the log-likelihood of each token's being replaced or not, summed."""
    total = 0.0
    for score, is_replaced, holds in zip(scores.ravel(), replaced.ravel(), counts.ravel(), strict=True):
        if holds:
            total += log_of_sum([0.0, -score if is_replaced else score])  # -log of sigmoid(score), or of 1 less it
    return total
