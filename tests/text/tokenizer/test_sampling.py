"""A sample of a stream: bounded, even between languages, and the same each time."""

from collections import Counter

import numpy as np

from toolkit.text.tokenizer.sampling import sample_lines

LINE = "x" * 9


def rows(**sizes: int) -> list[tuple[str, str]]:
    """So many lines of ten characters a language, languages in turn."""
    made = [(place, language, f"{place % 10}{LINE}") for language, size in sizes.items() for place in range(size)]
    return [(text, language) for _, language, text in sorted(made)]


def test_all_is_kept_where_it_fits_and_in_order() -> None:
    texts = rows(en=20, sl=5)
    sample = sample_lines(texts, 10_000, seed=0)
    assert sample.lines == [text for text, _ in texts]
    assert sample.counts["sl"] == {"texts": 5, "empty": 0, "split": 0, "lines": 5, "kept": 5}


def test_languages_share_evenly_and_what_a_small_one_leaves_goes_to_the_others() -> None:
    counts = sample_lines(rows(en=1000, zh=700, sl=30), 4000, seed=0).counts
    kept = {language: count["kept"] for language, count in counts.items()}
    assert kept == {"en": 185, "zh": 185, "sl": 30}


def test_a_language_keeps_the_same_lines_however_it_is_mixed() -> None:
    texts = [(f"{number:03d}{LINE}", "en") for number in range(500)]
    others = [(f"{number:03d}{LINE}", "zh") for number in range(500)]
    apart = sample_lines([*texts, *others], 4800, seed=3).lines
    mixed = sample_lines([row for pair in zip(others, texts, strict=True) for row in pair], 4800, seed=3).lines
    assert Counter(apart) == Counter(mixed)
    assert Counter(apart) != Counter(sample_lines([*texts, *others], 4800, seed=4).lines)


def test_every_line_has_the_same_chance() -> None:
    texts = [(f"{number:04d}{LINE[:6]}", "en") for number in range(1000)]
    taken = np.zeros(1000)
    for seed in range(200):
        for line in sample_lines(texts, 2000, seed).lines:
            taken[int(line[:4])] += 1
    assert abs(taken[:500].sum() / taken.sum() - 0.5) < 0.01  # neither early nor late ones
    assert taken.min() > 15 and taken.max() < 70  # 40 expected, 5.7 the deviation


def test_long_texts_are_split_and_counted_and_empty_ones_counted() -> None:
    sample = sample_lines([("word " * 2000, "en"), ("", "en"), ("\t", "en")], 100_000, seed=0)
    assert sample.counts["en"] == {"texts": 3, "empty": 2, "split": 1, "lines": 3, "kept": 3}
    assert "".join(sample.lines) == "word " * 2000
