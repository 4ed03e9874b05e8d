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
from toolkit.text.tokenizer import SPECIAL_TOKENS


class SpectralConfig(Section):
    """How token vectors are counted and factored."""

    dim: int = Field(256, ge=2)
    """Components kept."""
    context_smoothing: float = Field(0.75, gt=0, le=1)
    """Power of the context frequencies, which keeps rare contexts from dominating."""
    singular_value_power: float = Field(0.5, ge=0)
    """Weight of strong components; 0 whitens them."""


def document_cooccurrence(ids: Sequence[Sequence[int]], vocab_size: int) -> sp.csr_matrix:
    """How often two pieces stand in one text, each text counting once whatever its length.

    For telling texts apart (topic, tone) this is better than a window of some words, which finds pieces of
    like
    syntax: `good` beside `bad`.

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
    """Vectors of pieces whose co-occurrence profiles are alike point the same way.

    Each language is factored on its own, so that a large one does not take all components; a piece of several
    languages gets the mean of its vectors there, by how often each has it. Vectors have norm 1: which texts a
    piece stands in matters, how often it does is left to the weights in pooling.

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
    total = np.zeros((vocab_size, config.dim))
    for language in sorted(set(languages)):
        own = [ids[row] for row in np.flatnonzero(languages == language)]
        frequency = np.asarray(term_counts(own, vocab_size).sum(axis=0)).ravel()
        total += frequency[:, None] * _unit(_factor(own, vocab_size, config, seed))
    return _unit(total).astype(np.float32)


def _factor(ids: Sequence[Sequence[int]], vocab_size: int, config: SpectralConfig, seed: int) -> np.ndarray:
    ppmi = positive_pmi(document_cooccurrence(ids, vocab_size), config.context_smoothing)
    present = np.flatnonzero(np.diff(ppmi.indptr))  # the rest would only cost time
    vectors = np.zeros((vocab_size, config.dim))
    rank = min(config.dim, len(present))
    block = ppmi[present][:, present].astype(
        np.float32
    )  # twice as fast, and far more exact than the counts are
    left, values, _ = randomized_svd(block, n_components=rank, n_iter=3, random_state=seed)
    vectors[present, :rank] = left * values**config.singular_value_power
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def inverse_document_frequency(ids: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray:
    """log((1 + N) / (1 + texts that have the piece)) of each piece, (V,) float32; 0 for special tokens.

    Args:
        ids: Token ids of N texts.
        vocab_size: V.
    """
    presence_NV = term_counts(ids, vocab_size)
    texts_with = np.diff(presence_NV.tocsc().indptr)
    weights = np.log((1 + len(ids)) / (1 + texts_with)).astype(np.float32)
    weights[: len(SPECIAL_TOKENS)] = 0
    return weights


def term_counts(ids: Sequence[Sequence[int]], vocab_size: int) -> sp.csr_matrix:
    """(N, V) how often each text has each piece."""
    lengths = [len(text) for text in ids]
    flat = (
        np.concatenate([np.asarray(text, dtype=np.int32) for text in ids])
        if sum(lengths)
        else np.empty(0, np.int32)
    )
    counts = sp.csr_matrix(
        (np.ones(len(flat)), flat, np.r_[0, np.cumsum(lengths)]), shape=(len(ids), vocab_size)
    )
    counts.sum_duplicates()
    return counts
