import pandas as pd
import pytest

from toolkit.errors import DataError
from toolkit.text.corpus import build_corpus, concatenate

LONG = "The hotel was clean, quiet and close to the station, and we would stay there again"


def rows(*entries: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"text": t, "language": lang, "source": "s", "label": y, "group": ""} for t, lang, y in entries]
    )


def test_repeats_are_dropped_and_counted() -> None:
    corpus = build_corpus(
        rows(
            ("Good.", "en", 1),
            ("good!", "en", 1),
            ("bad", "en", 0),
            (LONG, "en", 1),
            (LONG + "!! X", "en", 1),
            ("…", "en", 0),
        ),
        origin="card",
    )
    assert corpus.texts == ["Good.", "bad", LONG]
    assert corpus.counts == {
        "read": 6,
        "empty": 1,
        "contradicting": 0,
        "repeated": 2,
        "kept": 3,
        "labelled": 3,
    }


def test_contradicting_labels_drop_all_repeats() -> None:
    corpus = build_corpus(rows(("fine", "en", 1), ("Fine", "en", 0), ("bad", "en", 0)), origin="card")
    assert corpus.texts == ["bad"]
    assert corpus.counts["contradicting"] == 2


def test_a_labelled_repeat_is_kept_before_an_unlabelled_one() -> None:
    corpus = build_corpus(rows(("fine", "en", -1), ("fine", "en", 1)), origin="card")
    assert corpus.labels.tolist() == [1]


def test_languages_do_not_repeat_each_other() -> None:
    assert len(build_corpus(rows(("radio", "en", 1), ("radio", "id", 0)), origin="card")) == 2


def test_texts_without_group_get_their_own() -> None:
    corpus = build_corpus(rows(("one", "en", 1), ("two", "en", 1)), origin="card")
    assert len(set(corpus.groups)) == 2
    again = build_corpus(rows(("Two!", "en", 1), ("three", "en", 1)), origin="renamed")
    assert set(corpus.groups) & set(again.groups) == {corpus.groups[1]}  # the text, not its row or card


def test_empty_corpus_is_an_error() -> None:
    with pytest.raises(DataError, match="card: the corpus is empty: 2 rows"):
        build_corpus(rows(("  ", "en", 1), ("!", "en", 0)), origin="card")


def test_unknown_language_names_the_nearest() -> None:
    corpus = build_corpus(rows(("one", "eng", 1), ("dve", "sl", 1)), origin="card")
    with pytest.raises(DataError, match="no texts in language 'en'; did you mean 'eng'"):
        corpus.of_language("en")


def test_held_out_texts_do_not_come_back() -> None:
    corpus = build_corpus(rows((LONG, "en", 1), ("two", "en", 1)), origin="card")
    assert corpus.without([LONG.upper() + "."]).texts == ["two"]


def test_concatenation_adds_up_and_refuses_other_classes() -> None:
    one = build_corpus(rows(("one", "en", 1)), origin="a", class_names=("negative", "positive"))
    other = build_corpus(rows(("two", "en", -1)), origin="b")
    both = concatenate([one, other])
    assert both.counts["read"] == 2
    assert both.class_names == ("negative", "positive")
    assert both.frame.index.tolist() == [0, 1]
    third = build_corpus(rows(("three", "en", 1)), origin="c", class_names=("bad", "good"))
    with pytest.raises(DataError, match="different classes"):
        concatenate([one, third])
