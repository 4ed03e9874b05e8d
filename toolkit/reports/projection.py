"""Embeddings in the plane, for a map."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE


def project(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, 2008) of the leading 50 principal components, started from the first two.

    Args:
        embeddings: (N, D), N at least 3.
        seed: Of what is random in it.

    Returns:
        (N, 2) float32. Neighbours are kept; distances between far clusters mean nothing.
    """
    components = PCA(min(50, *embeddings.shape), random_state=seed).fit_transform(embeddings)
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(components)
