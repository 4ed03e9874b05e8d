"""Token vectors from co-occurrence: positive pointwise mutual information, factored by a truncated SVD.

Counting and one factorisation, no training: under a minute where a network needs hours to learn as much of
which pieces go together. Levy & Goldberg (2014) show that word2vec factors the same matrix implicitly.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from sklearn.utils.extmath import randomized_svd

from toolkit.config import Section


class SpectralConfig(Section):
    """How token vectors are counted and factored."""

    dim: int = Field(256, ge=2, multiple_of=2)
    """Components kept: half from whole texts, half from windows."""
    window: int = Field(5, ge=1)
    """Pieces to either side that a window holds."""
    context_smoothing: float = Field(0.75, gt=0, le=1)
    """Power of the context frequencies, which keeps rare contexts from dominating."""
    singular_value_power: float = Field(0.5, ge=0)
    """Weight of strong components; 0 whitens them."""
    length_power: float = Field(0.5, ge=0)
    """0 makes all vectors equally long, 1 leaves them as factored: long where a piece is well explained."""
    max_texts: int = Field(500_000, ge=1)
    """Texts that are counted, drawn at random where there are more."""


def window_cooccurrence(ids: Sequence[Sequence[int]], vocab_size: int, window: int) -> sp.csr_matrix:
    """How often two pieces stand near each other, a pair at distance d counting 1 / d.

    Args:
        ids: Token ids of N texts.
        vocab_size: V.
        window: Largest distance.

    Returns:
        (V, V) symmetric.
    """
    gap = np.full(window, -1, np.int32)  # so that no pair reaches into the next text
    flat = np.concatenate([gap, *(part for text in ids for part in (np.asarray(text, np.int32), gap))])
    counts = sp.csr_matrix((vocab_size, vocab_size))
    for distance in range(1, window + 1):
        left, right = flat[:-distance], flat[distance:]
        inside = (left >= 0) & (right >= 0)
        pairs = (np.full(int(inside.sum()), 1 / distance), (left[inside], right[inside]))
        counts = counts + sp.coo_matrix(pairs, shape=counts.shape).tocsr()
    return (counts + counts.T).tocsr()


def document_cooccurrence(ids: Sequence[Sequence[int]], vocab_size: int) -> sp.csr_matrix:
    """How often two pieces stand in one text, each text counting once whatever its length.

    It says which pieces belong to one topic or tone; a window says which can stand in one place.

    Args:
        ids: Token ids of N texts.
        vocab_size: V.

    Returns:
        (V, V) symmetric.
    """
    presence_NV = term_counts(ids, vocab_size)
    presence_NV.data[:] = 1
    sizes = np.maximum(np.asarray(presence_NV.sum(axis=1)).ravel(), 1)
    return (presence_NV.T @ sp.diags(1 / sizes) @ presence_NV).tocsr()


def positive_pmi(cooccurrence: sp.csr_matrix, context_smoothing: float) -> sp.csr_matrix:
    """Positive pointwise mutual information with smoothed contexts (Levy, Goldberg & Dagan, 2015).

    Args:
        cooccurrence: (V, V) counts.
        context_smoothing: Power of the context frequencies.

    Returns:
        max(0, log(p(a, b) / (p(a) p'(b)))), (V, V).
    """
    counts = cooccurrence.tocoo()
    of_row = np.asarray(cooccurrence.sum(axis=1)).ravel()
    of_context = np.asarray(cooccurrence.sum(axis=0)).ravel() ** context_smoothing
    of_context /= max(of_context.sum(), 1e-300)
    pmi = np.log(counts.data / (of_row[counts.row] * of_context[counts.col]))
    kept = pmi > 0
    return sp.csr_matrix((pmi[kept], (counts.row[kept], counts.col[kept])), shape=counts.shape)


def spectral_embeddings(
    ids: Sequence[Sequence[int]],
    languages: Sequence[str] | np.ndarray,
    vocab_size: int,
    config: SpectralConfig,
    seed: int,
) -> np.ndarray:
    """Vectors that point the same way for pieces of like company, in whole texts and in windows.

    Each language is factored on its own, so that a large one does not take all components; a piece of several
    languages gets the mean of its vectors there, by how often each has it. So a text's components are to be
    read beside those of its own language only.

    Args:
        ids: Token ids of N texts, without special tokens.
        languages: Their languages, (N,).
        vocab_size: V.
        config: Size and smoothing.
        seed: Of the randomised SVD (Halko, Martinsson & Tropp, 2011).

    Returns:
        (V, dim) float32; zero for pieces that the texts do not have.
    """
    languages = np.asarray(languages, dtype=object)
    total, occurrences = np.zeros((vocab_size, config.dim)), np.zeros(vocab_size)
    for language in sorted(set(languages)):
        own = [ids[row] for row in np.flatnonzero(languages == language)]
        frequency = np.asarray(term_counts(own, vocab_size).sum(axis=0)).ravel()
        counted = (
            document_cooccurrence(own, vocab_size),
            window_cooccurrence(own, vocab_size, config.window),
        )
        total += frequency[:, None] * np.hstack([_factor(counts, config, seed) for counts in counted])
        occurrences += frequency
    return (total / np.maximum(occurrences, 1)[:, None]).astype(np.float32)


def _factor(cooccurrence: sp.csr_matrix, config: SpectralConfig, seed: int) -> np.ndarray:
    """Half of the components: (V, dim / 2)."""
    ppmi = positive_pmi(cooccurrence, config.context_smoothing)
    present = np.flatnonzero(np.diff(ppmi.indptr))  # the rest would only cost time
    vectors = np.zeros((len(ppmi.indptr) - 1, config.dim // 2))
    rank = min(vectors.shape[1], len(present))
    if not rank:  # every piece goes with every other as chance has it
        return vectors
    # float32 is twice as fast, and far more exact than the counts are.
    block = ppmi[present][:, present].astype(np.float32)
    left, values, _ = randomized_svd(block, n_components=rank, n_iter=3, random_state=seed)
    vectors[present, :rank] = left * values**config.singular_value_power
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    typical = np.median(lengths[present])
    return vectors / np.maximum(lengths, 1e-12) * (lengths / typical) ** config.length_power


def inverse_document_frequency(ids: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray:
    """log((1 + N) / (1 + texts that have the piece)) of each piece, (V,) float32.

    Args:
        ids: Token ids of N texts.
        vocab_size: V.
    """
    presence_NV = term_counts(ids, vocab_size)
    texts_with = np.diff(presence_NV.tocsc().indptr)
    return np.log((1 + len(ids)) / (1 + texts_with)).astype(np.float32)


def term_counts(ids: Sequence[Sequence[int]], vocab_size: int) -> sp.csr_matrix:
    """(N, V) how often each text has each piece."""
    lengths = [len(text) for text in ids]
    flat = np.concatenate([np.asarray(text, dtype=np.int32) for text in ids]) if sum(lengths) else np.empty(0, np.int32)
    counts = sp.csr_matrix((np.ones(len(flat)), flat, np.r_[0, np.cumsum(lengths)]), shape=(len(ids), vocab_size))
    counts.sum_duplicates()
    return counts
