"""The ranking on the page and as Markdown, and a page with several pretrainings of one task."""

import numpy as np
import pandas as pd
import pytest

from tests.reports.conftest import summarise
from toolkit.reports import Report, ranking_markdown
from toolkit.reports.headline import claims, headline
from toolkit.reports.page import render
from toolkit.reports.panels import panels
from toolkit.reports.ranking import ranking_tables

RANKING = pd.DataFrame(
    [
        ("ssl-probe", "byol", 1, 0.72, 0.7, 0.74, np.nan, np.nan, np.nan, 0.6, 0.84, 75.0, 1.25, "", 0.2, 0.1),
        ("ssl-probe", "simclr", 2, 0.71, 0.69, 0.73, 0.01, -0.01, 0.03, 0.59, 0.83, 60.0, 1.2, "collapsed", 0.0, -0.01),
        ("raw", "none", np.nan, 0.5, 0.48, 0.52, *[np.nan] * 3, 0.4, 0.6, *[np.nan] * 5),
        ("external", "ct_fm", np.nan, 0.73, 0.7, 0.76, -0.01, -0.04, 0.02, 0.64, 0.82, *[np.nan] * 5),
        ("ssl-probe", "mae", *[np.nan] * 11, "a worker | was killed", np.nan, np.nan),
    ],
    columns=[
        "method", "pretraining", "place", "score", "low", "high", "behind", "behind_low", "behind_high",
        "at_2", "at_20", "seconds", "memory_gb", "note", "over_random", "over_random_low",
    ],
).assign(leg="scans", task="lobes, cnn", language=np.nan, site="s02")  # fmt: skip


def test_rows_are_in_order_with_their_gaps() -> None:
    (table,) = ranking_tables(RANKING)
    assert table.title == "Scans · lobes, cnn · s02"
    assert table.columns == ["mean", "2", "20", "behind the best", "time", "memory"]
    pretrained, baselines, public = table.groups
    assert [row.name for row in pretrained] == ["1. BYOL probe", "2. SimCLR probe", "MAE probe"]
    assert [cell.text for cell in pretrained[0].cells] == [".72", ".60", ".84", "", "1 min 15 s", "1.25 GB"]
    assert pretrained[1].cells[3].interval == "[−.01, .03]" and pretrained[0].note == ""
    assert pretrained[1].note == "not shown to beat the same network with random weights; collapsed"
    assert [cell.text for cell in pretrained[2].cells] == [""] * 6
    assert [row.name for row in baselines] == ["block means"]
    assert [(row.name, row.note) for row in public] == [("ct_fm", "from elsewhere, on other data: no place")]
    assert [cell.text for cell in public[0].cells] == [".73", ".64", ".82", "−.01", "", ""]


def test_a_lead_without_an_interval_is_not_shown() -> None:
    (table,) = ranking_tables(RANKING.assign(over_random_low=np.nan))  # one draw of labels
    notes = [row.note for row in table.groups[0]]
    assert ["not shown to beat" in note for note in notes] == [True, True, False]  # the last was not measured


def test_markdown_has_as_many_cells_in_each_row() -> None:
    lines = ranking_markdown(RANKING).splitlines()
    assert lines[0] == "**Scans · lobes, cnn · s02**"
    assert lines[4] == "| 1. BYOL probe | .72 [.70, .74] | .60 | .84 | – | 1 min 15 s | 1.25 GB |"
    assert {line.replace("\\|", "").count("|") for line in lines[2:9]} == {8}
    assert lines[8].startswith("| ct_fm (from elsewhere, on other data: no place) | .73")


@pytest.fixture(scope="module")
def several(tables: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scan task with three pretrainings."""
    scans = tables[0][tables[0]["leg"] == "scans"]
    probe = scans[scans["method"] == "ssl-probe"]
    results = pd.concat([scans, probe.assign(pretraining="byol"), probe.assign(pretraining="vicreg")])
    return results, summarise(results)


def test_each_pretraining_has_a_claim(several: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    (panel,) = panels(several[1])
    made = claims(panel)
    assert [one.method for one in made] == ["SimCLR probe", "BYOL probe", "VICReg probe"]
    assert made[1].sentence.startswith("With 5 labels a class the BYOL probe reaches")
    assert headline(made) == "Pretraining saved labels in all 3 comparisons"


def test_the_page_shows_the_ranking_and_every_line_has_its_name(several: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    page = render(Report("test", *several, ranking=RANKING))
    for shown in ('id="ranking"', "1. BYOL probe", "collapsed", "VICReg probe", "a worker | was killed"):
        assert shown in page
    assert 'id="ranking"' not in render(Report("test", *several))
