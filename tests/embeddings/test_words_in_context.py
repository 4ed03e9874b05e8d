"""The set of ambiguous words keeps its own rules, and its score is chance where context is not looked at."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from toolkit.embeddings.measurements import summarise
from toolkit.embeddings.words_in_context import (
    bag_of_context_words,
    find_word,
    sense_auc,
    sense_measurements,
    word_vectors,
)
from toolkit.encoders.text import TextEncoder
from toolkit.errors import DataError
from toolkit.text import Corpus


def value_of(table: pd.DataFrame, language: str = "mean") -> pd.Series:
    summary = summarise({"x": table.assign(method="encoder")})
    return summary[summary["language"] == language].iloc[0]


def test_the_card_has_what_it_promises(words: Corpus) -> None:
    frame = words.frame
    assert sorted(set(words.languages)) == ["de", "en", "sl", "zh"]
    sizes = frame.groupby(["language", "source", "label"]).size().unstack()
    assert (sizes.to_numpy() == 4).all() and sizes.groupby("language").size().tolist() == [20] * 4
    for text, word in zip(words.texts, frame["source"], strict=True):
        assert find_word(text, word)[0] > 0, text  # once, and not first


def test_vectors_without_context_stand_at_one_half(words: Corpus, encoder: TextEncoder) -> None:
    static = word_vectors(encoder, words.texts, words.frame["source"].tolist())["static"]
    table = sense_measurements(static, words, "words")
    by_language = {language: value_of(table, language) for language in ("de", "en", "sl", "zh")}
    for language in ("de", "en", "sl"):
        assert by_language[language].value == 0.5
        assert (by_language[language].low, by_language[language].high) == (0.5, 0.5)
    chinese = by_language["zh"]  # a piece may join the word with its neighbour
    assert chinese.low <= 0.5 <= chinese.high and abs(chinese.value - 0.5) < 0.05


def test_a_bag_of_context_words_is_above_chance_and_blind_to_the_word(words: Corpus) -> None:
    texts, targets = words.texts, words.frame["source"].tolist()
    bags = bag_of_context_words(texts, targets)
    assert value_of(sense_measurements(bags, words, "words")).low > 0.5
    renamed = ["Q" * len(word) if word.isascii() else word for word in targets]
    places = [find_word(text, word) for text, word in zip(texts, targets, strict=True)]
    changed = [text[:a] + new + text[b:] for text, new, (a, b) in zip(texts, renamed, places, strict=True)]
    np.testing.assert_array_equal(bag_of_context_words(changed, renamed), bags)


def test_the_vector_is_that_of_the_words_own_tokens(encoder: TextEncoder) -> None:
    texts = ["We sat on the bank and watched.", "They closed the account because the bank raised its fees."]
    found = word_vectors(encoder, texts, ["bank", "bank"], batch_size=2)
    np.testing.assert_allclose(found["static"][0], found["static"][1], atol=1e-7)
    assert np.abs(found["contextual"][0] - found["contextual"][1]).max() > 1e-3
    assert np.abs(found["context"][0] - found["context"][1]).max() > 1e-3
    (bank,) = encoder.tokenizer.encode(["bank"])
    for row, text in enumerate(texts):
        (ids,) = encoder.tokenizer.encode([text])
        (place,) = [at for at in range(len(ids)) if ids[at : at + len(bank)] == bank]
        with torch.inference_mode():
            hidden = encoder(encoder.collate([text])).last[0, place + 1 : place + 1 + len(bank)].mean(dim=0)
        np.testing.assert_allclose(found["contextual"][row], hidden.numpy(), atol=1e-5)
        vectors = encoder.token_embeddings.detach().numpy()
        np.testing.assert_allclose(found["static"][row], vectors[bank].mean(axis=0), atol=1e-7)
        others = [*ids[:place], *ids[place + len(bank) :]]
        np.testing.assert_allclose(found["context"][row], vectors[others].sum(axis=0), atol=1e-5)


def test_auc_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    vectors, senses = rng.normal(size=(9, 4)), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    vectors[senses == 1] += 0.7
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    same = [senses[i] == senses[j] for i, j in pairs]
    assert sense_auc(vectors, senses) == pytest.approx(roc_auc_score(same, [unit[i] @ unit[j] for i, j in pairs]))
    assert sense_auc(np.eye(2)[senses], senses) == 1.0
    alike = np.outer(rng.uniform(0.1, 9, size=9), rng.normal(size=64))  # but for rounding
    assert sense_auc(alike, senses) == 0.5


@pytest.mark.parametrize(
    ("text", "word"),
    [("no such word", "bank"), ("a bank by a bank", "bank"), ("embankment", "bank"), ("银行银行", "银行")],
)
def test_a_word_that_is_not_there_exactly_once_is_named(text: str, word: str) -> None:
    with pytest.raises(DataError, match=f"'{word}' must stand exactly once in its sentence, not"):
        find_word(text, word)
    good = f"some {word} here"
    with pytest.raises(DataError, match=f"'{word}' must stand exactly once in sentence 2, not") as caught:
        bag_of_context_words([good, f"{text} secret"], [word, word])
    assert "secret" not in str(caught.value)  # an error reaches logs, and a text may be private


def test_words_stand_whole_where_there_are_spaces() -> None:
    assert find_word("embankment, bank.", "bank") == (12, 16)
    assert find_word("把苹果派给我", "苹果") == (1, 3)


def test_one_sense_alone_is_refused(words: Corpus) -> None:
    first = words.take(words.labels == 0)
    with pytest.raises(DataError, match="needs two senses"):
        sense_measurements(np.ones((len(first), 2)), first, "words")


def test_of_a_long_text_the_encoder_sees_what_stands_around_the_word(encoder: TextEncoder) -> None:
    around = " ".join(["near"] * 40)
    texts = [f"{far * 60} {around} bank {around} {far * 60}" for far in ("money ", "water ")]
    found = word_vectors(encoder, [*texts, f"bank {around}", f"{around} bank"], ["bank"] * 4)
    np.testing.assert_allclose(found["contextual"][0], found["contextual"][1], atol=1e-6)
    assert np.abs(found["contextual"][2] - found["contextual"][3]).max() > 1e-3
    text = f"{'money ' * 60} near bank near {'money ' * 60}"
    neighbours = [text, text.replace("near bank", "late bank"), text.replace("bank near", "bank late")]
    seen = word_vectors(encoder, neighbours, ["bank"] * 3)["contextual"]
    assert all(np.abs(seen[0] - other).max() > 1e-4 for other in seen[1:])
    long = "x" * 200
    with pytest.raises(DataError, match=r"has \d+ tokens, and the encoder takes 1 to 62"):
        word_vectors(encoder, [f"a {long} b"], [long])
