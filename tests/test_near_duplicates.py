import numpy as np
import pytest

from toolkit.near_duplicates import Repeat, RepeatFinder, canonical, clusters, near_any

SENTENCE = "The hotel was clean, quiet and close to the station, and we would stay there again."


def test_canonical_ignores_case_width_punctuation_and_spacing() -> None:
    assert canonical("  Ｈello,\u3000WORLD!!! _x_ ") == "hello world x"
    assert canonical("?!…") == ""


def test_exact_repeats_share_the_first_index() -> None:
    assert clusters(["a b", "c", "A  b!", "c"], threshold=1).tolist() == [0, 1, 0, 1]


def test_near_repeats_join_and_others_do_not() -> None:
    texts = [
        "Something else altogether, which shares nothing.",
        SENTENCE,
        SENTENCE.replace("again", "again soon"),
        "hotel",
    ]
    assert clusters(texts).tolist() == [0, 1, 1, 3]
    assert clusters(texts, threshold=1).tolist() == [0, 1, 2, 3]


def test_clusters_are_transitive() -> None:
    chain = [SENTENCE + " " + "x" * k for k in (1, 9, 17, 25)]
    assert clusters(chain, threshold=0.8).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_agrees_with_all_pairs(threshold: float) -> None:
    rng = np.random.default_rng([0])
    words = ["good", "bad", "hotel", "room", "film", "very", "not", "cheap", "clean", "again", "story"]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    texts += [text.replace("good", "great") for text in texts[:30]]

    def shingles(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)}

    near = {
        (i, j)
        for i in range(len(texts))
        for j in range(i)
        if len(shingles(texts[i]) & shingles(texts[j])) / len(shingles(texts[i]) | shingles(texts[j])) >= threshold
    }
    ours = clusters(texts, threshold=threshold)
    linked = sum(ours[i] == ours[j] for i, j in near)
    assert linked >= 0.9 * len(near)  # MinHash may miss a few at the threshold itself
    parents = list(range(len(texts)))
    for i, j in sorted(near):  # and joins nothing that is not linked through near pairs
        old, new = parents[i], parents[j]
        parents = [new if p == old else p for p in parents]
    assert all(parents[i] == parents[c] for i, c in enumerate(ours))


def test_held_out_texts_are_found() -> None:
    assert near_any([SENTENCE.upper(), "other words"], [SENTENCE]).tolist() == [True, False]


def test_no_texts() -> None:
    assert clusters([]).tolist() == []


def reasons(texts: list[str], threshold: float = 0.8, held_out: list[str] | None = None) -> list[Repeat]:
    finder = RepeatFinder(threshold=threshold)
    finder.hold_out(held_out or [])
    for text in texts:
        finder.add(text)
    return [Repeat(value) for value in finder.reasons()]


def test_a_stream_of_texts_keeps_the_first_of_each() -> None:
    near = f"{SENTENCE}!! X"
    texts = ["Good.", SENTENCE, "good!", near, near.upper(), "other"]
    none, exact = Repeat.NONE, Repeat.EXACT
    assert reasons(texts) == [none, none, exact, Repeat.NEAR, exact, none]
    assert reasons(texts, threshold=1) == [none, none, exact, none, exact, none]
    assert reasons([]) == []


def test_texts_of_other_kinds_do_not_repeat_each_other() -> None:
    finder = RepeatFinder(threshold=0.8)
    for kind in ("en", "id"):
        for text in ("radio", SENTENCE):
            finder.add(text, kind)
    assert not finder.reasons().any()


@pytest.mark.parametrize("threshold", [0.8, 1.0])
def test_a_stream_does_not_bring_held_out_texts_back(threshold: float) -> None:
    texts = [SENTENCE.upper(), f"{SENTENCE}!! X", "quite another text"]
    assert reasons(texts, threshold, [SENTENCE]) == [Repeat.HELD_OUT, Repeat.HELD_OUT, Repeat.NONE]
    finder = RepeatFinder(threshold=threshold)
    finder.hold_out([SENTENCE])
    for text in texts:  # whatever language somebody took it for
        for kind in ("und", "sl"):
            finder.add(text, kind)
    held_out = [Repeat.HELD_OUT] * 4
    assert finder.reasons().tolist() == [*held_out, Repeat.EXACT, Repeat.NONE]


@pytest.mark.parametrize("threshold", [0.8, 1.0])
def test_a_text_in_no_known_language_repeats_one_in_any(threshold: float) -> None:
    finder = RepeatFinder(threshold=threshold)
    rows = [("Radio", "und"), ("radio", "en"), ("radio", "id"), ("other", "und"), ("other", "und"), ("radio!", "en")]
    for row in rows:
        finder.add(*row)
    none, exact = Repeat.NONE, Repeat.EXACT
    assert finder.reasons().tolist() == [exact, none, none, none, exact, exact]


def test_a_stream_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(200)]
    texts = []
    for _ in range(150):
        text = rng.choice(words, 25).tolist()
        texts.append(" ".join(text))
        for num_changed in rng.integers(1, 6, size=rng.integers(3)):  # about .95 to .6 alike
            changed = dict.fromkeys(rng.choice(len(text), num_changed, replace=False).tolist(), "another")
            texts.append(" ".join(changed.get(place, word) for place, word in enumerate(text)))

    def shingles(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)}

    sets = [shingles(text) for text in texts]

    def near(i: int, j: int) -> bool:
        return len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8

    found = reasons(texts)
    kept = [i for i, reason in enumerate(found) if reason is Repeat.NONE]
    left = [j for j, reason in enumerate(found) if reason is not Repeat.NONE]
    assert len(left) > 40
    assert all(any(near(i, j) for i in range(len(texts)) if i != j) for j in left)  # nothing without a reason
    missed = [j for j in kept if any(near(i, j) for i in range(j))]
    assert len(missed) <= 0.02 * len(left)  # buckets may miss a few at the threshold itself
