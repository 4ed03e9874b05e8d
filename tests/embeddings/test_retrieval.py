"""Translations are found by cosine, ties share, and only pairs of held-out groups take part."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from toolkit.embeddings.measurements import summarise
from toolkit.embeddings.retrieval import (
    MIN_PAIRS,
    character_tfidf,
    found_translations,
    translated_groups,
    translation_accuracy,
)
from toolkit.errors import DataError
from toolkit.text import Corpus


def messages(num: int = 40, languages: tuple[str, ...] = ("en", "sl", "xx")) -> Corpus:
    """Message 7 of language sl is `sl 7 wort7`; `xx` has half of them."""
    rows = [
        (f"{language} {number} wort{number}", language, "made up", -1, f"group {number}")
        for language in languages
        for number in range(num if language != "xx" else num // 2)
    ]
    return Corpus(pd.DataFrame(rows, columns=["text", "language", "source", "label", "group"]))


def test_the_nearest_by_cosine_is_found_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 5)), rng.normal(size=(60, 5))
    b[:30] = 3 * a[:30] + 0.4 * rng.normal(size=(30, 5))
    expected = []
    for row in range(60):
        cosines = [a[row] @ other / np.linalg.norm(a[row]) / np.linalg.norm(other) for other in b]
        expected.append(float(np.argmax(cosines) == row))
    assert 0.3 < np.mean(expected) < 0.9
    np.testing.assert_array_equal(found_translations(a, b), expected)
    np.testing.assert_array_equal(found_translations(sp.csr_matrix(a), sp.csr_matrix(b)), expected)


def test_ties_share_what_chance_would_give() -> None:
    vectors = np.eye(3)[[0, 0, 1, 2]]
    np.testing.assert_allclose(found_translations(vectors, vectors), [0.5, 0.5, 1, 1])
    np.testing.assert_allclose(
        found_translations(np.zeros((4, 2)), np.ones((4, 2))), 0.25
    )  # an empty text knows nothing


def test_both_directions_of_each_pair_are_measured() -> None:
    corpus = messages()
    assert {language: len(groups) for language, groups in translated_groups(corpus, "en").items()} == {
        "sl": 40,
        "xx": 20,
    }
    order = {text: number for number, text in enumerate(corpus.texts)}

    def embed(texts: list[str]) -> np.ndarray:
        """Knows the messages, but takes those of `xx` above 9 for number 0."""
        numbers = [int(text.split()[1]) for text in texts]
        wrong = [
            0 if text.startswith("xx") and number > 9 else number for text, number in zip(texts, numbers, strict=True)
        ]
        assert len(set(texts)) == len(texts) and set(texts) <= order.keys()
        return np.eye(40)[wrong]

    table = translation_accuracy(embed, corpus, "card")
    summary = summarise({"x": table.assign(method="encoder")}).set_index("language")
    assert summary.loc["sl-en", "value"] == 1
    # From xx: 0 to 9 are right, the others find 0. To xx: 0 finds eleven that are equal, 1 to 9 are right, and 10 to 19
    # are equally far from all twenty.
    expected = (10 + 1 / 11 + 9 + 10 / 20) / 40
    assert summary.loc["xx-en", "value"] == pytest.approx(expected)
    assert summary.loc["mean", "value"] == pytest.approx((1 + expected) / 2)
    assert summary.loc["sl-en", "num_groups"] == 40
    only = translation_accuracy(embed, corpus, "card", languages=["sl"])
    assert set(only["language"]) == {"sl-en"}


def test_names_let_character_tfidf_find_translations() -> None:
    table = translation_accuracy(character_tfidf, messages(), "card")
    assert summarise({"none": table.assign(method="raw")}).set_index("language").loc["sl-en", "value"] > 0.9


def test_too_few_pairs_are_no_search() -> None:
    assert translated_groups(messages(MIN_PAIRS - 1), "en") == {}
    with pytest.raises(DataError, match="card: no language has 20 held-out texts that translate one in 'en'"):
        translation_accuracy(character_tfidf, messages(MIN_PAIRS - 1), "card")
    with pytest.raises(DataError, match="translate one in 'fr'"):
        translation_accuracy(character_tfidf, messages(), "card", pivot="fr")
