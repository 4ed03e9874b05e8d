"""The score table of a task, and the table of labels saved, as rows of finished text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from toolkit.reports.headline import Verdict, labels_equal, verdict
from toolkit.reports.names import LEGS, NOT_RUN, ROLES, Role, decimal, interval
from toolkit.reports.panels import Panel, Series, rows_of


@dataclass(frozen=True)
class Cell:
    """One score: mean and interval as text, the mean as a share for the bar, and whether it is best."""

    mean: str
    interval: str
    share: float
    is_best: bool


@dataclass(frozen=True)
class Difference:
    """A pretrained method's paired difference with a baseline at one budget.

    Attributes:
        interval: Over draws of labels.
        subjects: The interval over test subjects instead, empty where there are too few of them.
    """

    mean: str
    interval: str
    subjects: str
    baseline: str
    verdict: Verdict


DIFFERENCE_NOT_RUN = Difference(NOT_RUN, "", "", "", "not run")


@dataclass(frozen=True)
class Row:
    """One method; `draws` says on how many draws of labels it ran where that is fewer than others did."""

    name: str
    role: Role
    draws: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class ScoreTable:
    """Methods by budgets: `sections` by part in the comparison, `differences` a row a pretrained method."""

    budgets: list[int]
    sections: list[tuple[str, list[Row]]]
    differences: list[tuple[str, list[Difference]]]


@dataclass(frozen=True)
class SavedTable:
    """Labels saved: rows of a task, a pretrained method, and a cell for each budget.

    A cell is what the budget equals and of which baseline, None where the method was not run.
    """

    leg: str
    budgets: list[int]
    rows: list[tuple[str, str, list[tuple[str, str] | None]]]


def score_table(panel: Panel) -> ScoreTable:
    """All scores of one task in one metric; at each budget the best of pretrained and baselines is marked."""
    contest = [series for series in panel.series if series.role in ("ssl", "baseline")]
    best = {
        budget: max((s.at(budget).mean for s in contest if s.at(budget) is not None), default=math.nan)
        for budget in panel.budgets
    }
    most = max((_num_draws(series) for series in contest), default=0)
    sections = [
        (title, [_row(series, panel.budgets, best, most) for series in panel.with_role(role)])
        for role, title in ROLES.items()
        if panel.with_role(role)
    ]
    differences = [
        (series.label, [_difference(panel, series, budget) for budget in panel.budgets])
        for series in panel.with_role("ssl")
        if any(math.isfinite(point.difference) for point in series.points.values())
    ]
    return ScoreTable(panel.budgets, sections, differences)


def _row(series: Series, budgets: Sequence[int], best: dict[int, float], most: float) -> Row:
    cells: list[Cell | None] = []
    for budget in budgets:
        row = series.at(budget)
        if row is None:
            cells.append(None)
            continue
        is_best = series.role in ("ssl", "baseline") and row.mean == best[budget]
        cells.append(
            Cell(
                decimal(row.mean),
                interval(row.low, row.high),
                min(max(row.mean, 0.0), 1.0),
                is_best,
            )
        )
    few = series.points and _num_draws(series) < most
    return Row(series.label, series.role, f"{_num_draws(series):g} draws" if few else "", cells)


def _num_draws(series: Series) -> float:
    return max((point.num_draws for point in series.points.values()), default=0)


def _difference(panel: Panel, series: Series, budget: int) -> Difference:
    row = series.at(budget)
    if row is None or not math.isfinite(row.difference):
        return DIFFERENCE_NOT_RUN
    return Difference(
        mean=decimal(row.difference, sign=True),
        interval=interval(row.difference_low, row.difference_high, sign=True),
        subjects=interval(row.difference_subjects_low, row.difference_subjects_high, sign=True),
        baseline=panel.label_of(row.baseline),
        verdict=verdict(row.difference_low, row.difference_high),
    )


def against_each(panel: Panel, comparisons: pd.DataFrame) -> list[tuple[str, list[tuple[str, list[Difference]]]]]:
    """Each pretrained method with its paired differences by baseline and budget.

    Args:
        comparisons: The rows of `comparisons.csv`.
    """
    found = []
    for series in panel.with_role("ssl"):
        rows = rows_of(comparisons, panel, series)
        table = []
        for baseline in panel.with_role("baseline"):
            by_budget = rows[rows["baseline"] == baseline.method].set_index("budget")
            if not by_budget.empty:
                table.append((baseline.label, [_one(by_budget, budget) for budget in panel.budgets]))
        if table:
            found.append((series.label, table))
    return found


def _one(by_budget: pd.DataFrame, budget: int) -> Difference:
    if budget not in by_budget.index:
        return DIFFERENCE_NOT_RUN
    row = by_budget.loc[budget]
    bounds = interval(row.difference_low, row.difference_high, sign=True)
    return Difference(
        decimal(row.difference, sign=True), bounds, "", "", verdict(row.difference_low, row.difference_high)
    )


def saved_tables(panels: Sequence[Panel]) -> list[SavedTable]:
    """One table for each set of budgets, in the order of the panels."""
    tables: dict[tuple[str, tuple[int, ...]], SavedTable] = {}
    for panel in panels:
        for series in panel.with_role("ssl"):
            cells = [_saved(panel, series, budget) for budget in panel.budgets]
            if any(cells):
                key = (panel.leg, tuple(panel.budgets))
                table = tables.setdefault(key, SavedTable(LEGS.get(panel.leg, panel.leg), panel.budgets, []))
                table.rows.append((panel.title, series.label, cells))
    return list(tables.values())


def _saved(panel: Panel, series: Series, budget: int) -> tuple[str, str] | None:
    row = series.at(budget)
    if row is None or not math.isfinite(row.difference):
        return None
    equal = labels_equal(row, budget, panel.budgets[-1])
    baseline = panel.method(row.baseline)
    other = baseline.at(budget) if baseline else None
    # One that ran with fewer draws is not what the number was read from.
    named = equal != "none" and other is not None and other.num_draws >= row.num_draws
    return equal, panel.label_of(row.baseline) if named else ""
