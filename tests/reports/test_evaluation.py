"""The evaluation's tables, sentences and page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.reports.test_page import ATTACK, Reader
from toolkit.reports import CardFacts, Evaluation, evaluation_markdown, write_evaluation
from toolkit.reports.evaluation import evaluation_tables, headline, render

NAN = np.nan


def row(
    language: str, method: str, value: float, ahead: float = NAN, metric: str = "accuracy", **other: object
) -> dict:
    """A value with an interval of ±.05, ahead of TF-IDF with one of ±.02."""
    names = {"task": "translations", "language": language, "site": "messages_plone", "metric": metric}
    names |= {"method": method, "pretraining": "none" if method == "raw" else "mine"}
    numbers = {"value": value, "low": value - 0.05, "high": value + 0.05, "num_groups": 30}
    lead = {
        "baseline": NAN if np.isnan(ahead) else "raw",
        "ahead": ahead,
        "ahead_low": ahead - 0.02,
        "ahead_high": ahead + 0.02,
    }
    return names | numbers | lead | other


@pytest.fixture
def summary() -> pd.DataFrame:
    """Two languages and their mean, and bits in one language that has nothing to be compared with."""
    rows = [row("zh-en", "encoder", 0.2, -0.1), row("zh-en", "raw", 0.3), row("sl-en", "encoder", 0.9, 0.1)]
    rows += [row("sl-en", "raw", 0.8), row("mean", "encoder", 0.55, 0.01), row("mean", "raw", 0.54)]
    rows.append(row("sl", "encoder", 2.345, metric="bits_per_character", task="held-out text"))
    return pd.DataFrame(rows)


def test_tables_have_languages_in_order_and_the_mean_last(summary: pd.DataFrame) -> None:
    found, bits = evaluation_tables(summary)
    assert (found.title, found.metric) == ("translations · messages plone", "accuracy")
    assert found.methods == ["mine", "TF-IDF of characters"]
    assert [name for name, _ in found.rows] == ["Slovene and English", "Chinese and English", "mean"]
    cells = [cells[0] for _, cells in found.rows]
    assert [cell.verdict for cell in cells] == ["ahead", "behind", "unclear"]
    assert (cells[0].text, cells[0].interval, cells[0].ahead) == (".90", "[.85, .95]", "+.10 [+.08, +.12]")
    assert bits.rows[0][1][0].text == "2.35" and bits.rows[0][1][0].verdict == ""
    assert "nearer to its translation" in found.explanation and "by characters" in bits.explanation


def test_sentences_are_of_the_mean_and_say_what_is_shown(summary: pd.DataFrame) -> None:
    found, bits = evaluation_tables(summary)
    ((_, verdict, sentence),) = found.sentences
    assert verdict == "unclear" and sentence.startswith("mine: .55 [.50, .60] accuracy on average over the languages;")
    assert "is not told apart" in sentence
    assert bits.sentences == [("mine", "", "mine: 2.35 [2.30, 2.40] bits per character in Slovene.")]
    alone = evaluation_tables(summary[summary["language"] != "mean"])[0]
    assert [verdict for _, verdict, _ in alone.sentences] == ["ahead", "behind"]
    behind = next(sentence for _, verdict, sentence in alone.sentences if verdict == "behind")
    assert behind.endswith("in Chinese and English, behind the best baseline (TF-IDF of characters) by .10 [.08, .12].")
    assert headline([alone]) == "Ahead of the best baseline in 1 of 2 comparisons"
    assert headline([bits]) == "What the encoders know"


def test_markdown_has_as_many_cells_in_each_row(summary: pd.DataFrame) -> None:
    lines = evaluation_markdown(summary).splitlines()
    assert lines[0] == "**translations · messages plone**, accuracy"
    assert lines[4] == "| Slovene and English | .90 [.85, .95] | .80 [.75, .85] |"
    assert {line.count("|") for line in lines[2:7]} == {4}


def test_the_page_is_one_file_that_escapes_what_it_shows(summary: pd.DataFrame, tmp_path: Path) -> None:
    summary["pretraining"] = summary["pretraining"].replace("mine", ATTACK)
    evaluation = Evaluation(
        ATTACK, summary, cards=[CardFacts(ATTACK, ATTACK)], config=ATTACK, provenance={"a": ATTACK},
        durations={"evaluation": 75.0}, caveats=[ATTACK],
    )  # fmt: skip
    page = write_evaluation(tmp_path / "report.html", evaluation).read_text(encoding="utf-8")
    assert page == render(evaluation)
    reader = Reader(page)
    assert not reader.all("script") and not reader.all("img")
    assert reader.text.count(ATTACK) > 8  # as text, wherever it was given
    assert len([a for a in reader.all("svg") if a["aria-label"]]) == 2
    assert "1 min 15 s" in page and "+.10 [+.08, +.12]" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
