"""The papers' formulas once more, in plain NumPy and float64, term by term: what the losses are checked against.

They share no code with the losses, and take the same arguments; for one process, and slow. `*_collapsed` give a loss's
value where all N samples have the same D features.
"""

import math

import numpy as np

Arrays = tuple[np.ndarray, ...]


def two_views(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Views (n, d) of samples, partners alike but not equal."""
    z0 = rng.normal(size=(n, d))
    return z0, z0 + 0.5 * rng.normal(size=(n, d))


def with_queue(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Two views and seven keys of others."""
    return *two_views(rng, n, d), rng.normal(size=(7, d))


def grouped_views(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Two views of samples, every two of which are of one group."""
    return *two_views(rng, n, d), np.arange(n) // 2


def scores_and_codes(rng: np.random.Generator, n: int, d: int) -> Arrays:
    """Cosines with `d` prototypes, and shares of them."""
    shares = np.exp(rng.normal(size=(n, d)))
    return rng.uniform(-1, 1, size=(n, d)), shares / shares.sum(axis=1, keepdims=True)


def nt_xent(z0: np.ndarray, z1: np.ndarray, temperature: float) -> float:
    """Chen et al. 2020, equation 1, averaged over all 2N."""
    z, n = np.concatenate([z0, z1]), len(z0)
    total = 0.0
    for i in range(2 * n):
        others = [_cosine(z[i], z[k]) / temperature for k in range(2 * n) if k != i]
        total += log_of_sum(others) - _cosine(z[i], z[(i + n) % (2 * n)]) / temperature
    return total / (2 * n)


def nt_xent_collapsed(n: int, d: int) -> float:
    """Each finds its partner among 2n - 1 that are alike."""
    return math.log(2 * n - 1)


def info_nce(query: np.ndarray, key: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """He et al. 2020, equation 1."""
    total = 0.0
    for q, k in zip(query, key, strict=True):
        positive = _cosine(q, k) / temperature
        total += log_of_sum([positive, *(_cosine(q, other) / temperature for other in queue)]) - positive
    return total / len(query)


def info_nce_collapsed(n: int, d: int) -> float:
    """The key among itself and the seven of `with_queue`."""
    return math.log(8)


def in_batch_info_nce(query: np.ndarray, key: np.ndarray, temperature: float) -> float:
    """Chen, Xie & He 2021, algorithm 1, one direction, without the factor of twice the temperature."""
    total = 0.0
    for i, q in enumerate(query):
        logits = [_cosine(q, k) / temperature for k in key]
        total += log_of_sum(logits) - logits[i]
    return total / len(query)


def in_batch_info_nce_collapsed(n: int, d: int) -> float:
    """The key among n that are alike."""
    return math.log(n)


def grouped_info_nce(query: np.ndarray, key: np.ndarray, groups: np.ndarray, temperature: float) -> float:
    """The same with the keys of other groups, and one's own."""
    total = 0.0
    for i, q in enumerate(query):
        own = _cosine(q, key[i]) / temperature
        others = [_cosine(q, k) / temperature for k, group in zip(key, groups, strict=True) if group != groups[i]]
        total += log_of_sum([own, *others]) - own
    return total / len(query)


def grouped_info_nce_collapsed(n: int, d: int) -> float:
    """All are of one group."""
    return 0.0


def negative_cosine(p: np.ndarray, z: np.ndarray) -> float:
    """Chen & He 2021, equation 1."""
    return -sum(_cosine(a, b) for a, b in zip(p, z, strict=True)) / len(p)


def negative_cosine_collapsed(n: int, d: int) -> float:
    """Its optimum."""
    return -1.0


def barlow_twins(z0: np.ndarray, z1: np.ndarray, lambda_param: float) -> float:
    """Zbontar et al. 2021, equations 1 and 2."""
    a, b = z0 - z0.mean(axis=0), z1 - z1.mean(axis=0)
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            norm = math.sqrt(float((a[:, i] ** 2).sum())) * math.sqrt(float((b[:, j] ** 2).sum()))
            c = float(a[:, i] @ b[:, j]) / norm
            total += (1 - c) ** 2 if i == j else lambda_param * c**2
    return total


def barlow_twins_collapsed(n: int, d: int) -> float:
    """Features that do not vary correlate with nothing."""
    return float(d)


def vicreg(z0: np.ndarray, z1: np.ndarray, lambda_param: float, mu_param: float, nu_param: float) -> float:
    """Bardes et al. 2022 as their code has it: from the text's form, with lambda / D and mu / 2."""
    return vicreg_as_written(z0, z1, lambda_param / z0.shape[1], mu_param / 2, nu_param)


def vicreg_as_written(z0: np.ndarray, z1: np.ndarray, lambda_param: float, mu_param: float, nu_param: float) -> float:
    """Bardes et al. 2022, equations 1 to 6."""
    n, d = z0.shape
    invariance = sum(float(((a - b) ** 2).sum()) for a, b in zip(z0, z1, strict=True)) / n
    variance = covariance = 0.0
    for z in (z0, z1):
        c = np.atleast_2d(np.cov(z, rowvar=False))
        variance += sum(max(0.0, 1 - math.sqrt(c[j, j] + 1e-4)) for j in range(d)) / d
        covariance += sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return float(lambda_param * invariance + mu_param * variance + nu_param * covariance)


def vicreg_collapsed(n: int, d: int) -> float:
    """The variance term at its bound, at a weight of 25."""
    return 25 * (1 - math.sqrt(1e-4))


def swapped_prediction(scores: np.ndarray, codes: np.ndarray, temperature: float) -> float:
    """Caron et al. 2020, equation 2."""
    total = 0.0
    for s, q in zip(scores / temperature, codes, strict=True):
        total -= sum(share * (score - log_of_sum(list(s))) for share, score in zip(q, s, strict=True))
    return float(total / len(scores))


def swapped_prediction_collapsed(n: int, d: int) -> float:
    """All prototypes alike."""
    return math.log(d)


def reconstruction(predicted: np.ndarray, target: np.ndarray, normalize_targets: bool) -> float:
    """He et al. 2022, section 3, with targets normalised cell by cell."""
    total = 0.0
    for guess, cell in zip(predicted, target, strict=True):
        if normalize_targets:
            mean = math.fsum(cell) / len(cell)
            variance = math.fsum((v - mean) ** 2 for v in cell) / (len(cell) - 1)
            cell = [(v - mean) / math.sqrt(variance + 1e-6) for v in cell]
        total += math.fsum((g - v) ** 2 for g, v in zip(guess, cell, strict=True)) / len(guess)
    return total / len(predicted)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def log_of_sum(logits: list[float]) -> float:
    """Of the exponentials."""
    top = max(logits)
    return top + math.log(math.fsum(math.exp(logit - top) for logit in logits))
