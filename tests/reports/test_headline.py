import numpy as np
import pandas as pd

from toolkit.reports.headline import claim, headline, labels_equal
from toolkit.reports.panels import panels

EDGES = ["difference", "difference_low", "difference_high"]
EQUAL = ["labels_equal", "labels_equal_low", "labels_equal_high"]


def scans_with(summary: pd.DataFrame, difference: tuple, equal: tuple = (13.0, 10.0, 17.0)) -> pd.DataFrame:
    """The scan task alone, its probe at the middle budget set to .61 and these comparisons."""
    scans = summary[summary["leg"].eq("scans") & summary["metric"].eq("accuracy")].copy()
    at = scans["method"].eq("ssl-probe") & scans["budget"].eq(5)
    scans.loc[at, ["mean", "low", "high"]] = [0.61, 0.58, 0.64]
    scans.loc[at, EDGES] = difference
    scans.loc[at, EQUAL] = equal
    return scans


def test_a_gain_is_told_with_what_the_baseline_needs(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (0.14, 0.11, 0.17)))[0])
    assert made.verdict == "saved"
    assert made.sentence.startswith("With 5 labels a class the SimCLR probe reaches .61 [.58, .64] accuracy;")
    assert made.sentence.endswith("needs 13 [10, 17] labels to get there.")
    assert headline([made]) == "With this pretraining, 5 labels a class do the work of 13"


def test_what_no_baseline_reached_is_not_extrapolated(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (0.4, 0.3, 0.5), (np.inf, np.inf, np.inf)))[0])
    assert made.sentence.endswith("does not get there with the 100 labels a class that were tried.")
    assert headline([made]) == "With this pretraining, 5 labels a class do the work of more than 100"


def test_a_bound_beyond_the_budgets_is_told_as_such(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (0.4, 0.3, 0.5), (90.0, 40.0, np.inf)))[0])
    assert "needs 90 [40, > 100] labels" in made.sentence


def test_a_difference_that_may_be_zero_saves_nothing(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (0.02, -0.01, 0.05), (7.0, 4.0, 12.0)))[0])
    assert made.verdict == "unclear"
    assert "(paired difference +.02 [−.01, +.05])" in made.sentence
    assert made.sentence.endswith("Labels saved: none.")
    assert headline([made]) == "In this run, pretraining saved no labels"


def test_a_baseline_that_is_ahead_is_told(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (-0.1, -0.15, -0.05), (np.nan,) * 3))[0])
    assert made.verdict == "behind"
    assert "is ahead with" in made.sentence


def test_one_draw_has_no_interval_and_claims_nothing(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = claim(panels(scans_with(tables[1], (0.3, np.nan, np.nan)))[0])
    assert made.verdict == "unclear"


def test_a_study_without_the_probe_says_so(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    summary = tables[1][tables[1]["method"] != "ssl-probe"]
    made = [claim(panel) for panel in panels(summary)]
    assert {one.verdict for one in made} == {"not run"}
    assert headline(made) == "In this run, pretraining saved no labels"


def test_several_tasks_are_counted(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    made = [claim(panel) for panel in panels(tables[1])]
    assert [one.verdict for one in made] == ["saved", "saved", "saved", "behind", "unclear"]
    assert headline(made) == "Pretraining saved labels on 3 of 5 tasks"


def test_a_lead_whose_labels_are_not_shown_claims_no_number(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for equal in ((7.0, 4.0, 12.0), (np.nan,) * 3):
        panel = panels(scans_with(tables[1], (0.05, 0.01, 0.09), equal))[0]
        made = claim(panel)
        assert (made.verdict, made.work_of) == ("unclear", "")
        assert made.sentence.endswith("(paired difference +.05 [+.01, +.09]). Labels saved: not shown.")
        assert headline([made]) == "In this run, pretraining saved no labels"
        assert labels_equal(panel.method("ssl-probe").at(5), 5, 100) == "none"
