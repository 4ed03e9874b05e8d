import numpy as np
import pytest

from toolkit.text.spectral import (
    SpectralConfig,
    document_cooccurrence,
    inverse_document_frequency,
    positive_pmi,
    spectral_embeddings,
    window_cooccurrence,
)

IDS = [[5, 6, 6], [5, 6], [7, 8], [7, 8, 8], [5, 9], [7, 9]]


def test_cooccurrence_counts_each_text_once() -> None:
    counts = document_cooccurrence(IDS, 10).toarray()
    assert counts[5, 6] == pytest.approx(1 / 2 + 1 / 2)
    assert counts[5, 7] == 0
    assert np.allclose(counts, counts.T)


def test_positive_pmi_against_its_formula() -> None:
    counts = document_cooccurrence(IDS, 10).toarray()
    joint = counts / counts.sum()
    rows = joint.sum(axis=1)
    contexts = counts.sum(axis=0) ** 0.75
    contexts /= contexts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.maximum(np.log(joint / np.outer(rows, contexts)), 0)
    expected[~np.isfinite(expected)] = 0
    assert np.allclose(positive_pmi(document_cooccurrence(IDS, 10), 0.75).toarray(), expected)


def test_pieces_of_like_texts_point_the_same_way() -> None:
    vectors = spectral_embeddings(IDS, ["en"] * 6, 10, SpectralConfig(dim=6), seed=0)
    whole = vectors[:, :3]  # the half from whole texts
    unit = whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-9)
    assert unit[5] @ unit[6] > 0.9 > 0.5 > unit[5] @ unit[7]
    assert not vectors[:5].any()  # special tokens are in no text
    assert np.array_equal(vectors, spectral_embeddings(IDS, ["en"] * 6, 10, SpectralConfig(dim=6), seed=0))


def test_inverse_document_frequency() -> None:
    weights = inverse_document_frequency(IDS, 10)
    assert weights[5] == pytest.approx(np.log(7 / 4))


def test_each_language_has_all_components() -> None:
    both = [*IDS, *([token + 10 for token in text] for text in IDS)]
    vectors = spectral_embeddings(both, ["en"] * 6 + ["sl"] * 6, 20, SpectralConfig(dim=6), seed=0)
    assert np.allclose(vectors[5:10], vectors[15:20], atol=1e-5)


def test_windows_weigh_pairs_by_distance_and_end_with_the_text() -> None:
    counts = window_cooccurrence([[5, 6, 7, 5], [8]], 10, window=2).toarray()
    assert counts[5, 6] == pytest.approx(1 + 1 / 2)
    assert counts[6, 7] == 1
    assert counts[5, 7] == pytest.approx(1 / 2 + 1)
    assert not counts[8].any()
    assert np.array_equal(counts, counts.T)
