"""The study's summary, cut into panels: one for each task, language and site, with its series."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import pandas as pd

from toolkit.errors import DataError
from toolkit.reports.names import METHODS, Role, method_label, panel_title, role_of

PANEL_KEYS = ["leg", "task", "language", "site"]
KEYS = [*PANEL_KEYS, "method", "pretraining", "budget", "metric"]


@dataclass(frozen=True)
class Point:
    """One row of `summary.csv`, whose columns the study explains. NaN, or no baseline, where it has none."""

    mean: float
    low: float
    high: float
    num_draws: float
    baseline: str
    difference: float
    difference_low: float
    difference_high: float
    difference_subjects_low: float
    difference_subjects_high: float
    labels_equal: float
    labels_equal_low: float
    labels_equal_high: float

    def saves_labels(self, budget: int) -> bool:
        """Whether labels saved are shown at `budget`, by the rule that `summary.csv` follows."""
        return self.difference_low > 0 and self.labels_equal_low > budget and not math.isnan(self.labels_equal)


COLUMNS = [field.name for field in fields(Point)]


@dataclass(frozen=True)
class Series:
    """One method on one task.

    Attributes:
        points: By labels a class, ascending.
        constant: The score of a method that takes no labels (budget empty), else None.
    """

    method: str
    pretraining: str
    label: str
    role: Role
    points: dict[int, Point]
    constant: Point | None

    def at(self, budget: int) -> Point | None:
        """The score with `budget` labels a class, or the constant one; None if it was not run."""
        return self.points.get(budget, self.constant)


@dataclass(frozen=True)
class Panel:
    """One task in one metric: what one drawing and one table show.

    Attributes:
        middle_budget: The budget of the headlines: the middle one of its leg, the lower of two. No score has
            a say in it.
        series: In the order of `names.METHODS`.
    """

    leg: str
    task: str
    language: str
    site: str
    metric: str
    middle_budget: int | None
    series: tuple[Series, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.leg, self.task, self.language, self.site

    @property
    def title(self) -> str:
        return panel_title(self.leg, self.task, self.language, self.site)

    @property
    def budgets(self) -> list[int]:
        """All budgets (labels a class) that any method ran at, ascending."""
        return sorted({budget for series in self.series for budget in series.points})

    @property
    def probes(self) -> list[Series]:
        """The probe of each pretraining."""
        return [series for series in self.series if series.method == "ssl-probe"]

    def with_role(self, role: Role) -> list[Series]:
        return [series for series in self.series if series.role == role]

    def method(self, method: str) -> Series | None:
        """The first series of `method`, None if the table has none."""
        return next((series for series in self.series if series.method == method), None)

    def label_of(self, method: str) -> str:
        """The name of `method` for people, as this panel's leg calls it."""
        series = self.method(method)
        return series.label if series else method_label(method, self.leg)

    def best_baseline(self, budget: int) -> Series | None:
        """The baseline with the highest mean at `budget`, None where none ran."""
        ran = [series for series in self.with_role("baseline") if series.at(budget) is not None]
        return max(ran, key=lambda series: series.at(budget).mean, default=None)


def panels(summary: pd.DataFrame, metric: str = "accuracy") -> list[Panel]:
    """Cuts `summary.csv` into panels, in the order in which the tasks appear in it.

    Args:
        summary: The columns of `summary.csv`; those of the comparisons may be missing.
        metric: Which metric the panels show.

    Raises:
        DataError: If a column is missing or there is no row of `metric`.
    """
    missing = [column for column in [*KEYS, "mean", "low", "high"] if column not in summary]
    if missing:
        raise DataError(
            f"summary.csv: column {', '.join(missing)} is missing; write it with the label-efficiency study"
        )
    rows = summary[summary["metric"] == metric]
    if rows.empty:
        known = ", ".join(sorted(map(str, summary["metric"].unique()))) or "none"
        raise DataError(f"summary.csv: no row of metric {metric}; it has {known}")
    rows = rows.reindex(columns=[*KEYS, *COLUMNS]).astype({"budget": float})
    rows = with_texts(rows, [*PANEL_KEYS, "method", "pretraining", "baseline"])
    middle = {leg: _middle(group["budget"]) for leg, group in rows.groupby("leg")}
    return [
        Panel(*key, metric, middle[key[0]], tuple(_series(group)))
        for key, group in rows.groupby(PANEL_KEYS, sort=False)  # pandas gives a tuple for a list of keys
    ]


def rows_of(table: pd.DataFrame, panel: Panel, series: Series) -> pd.DataFrame:
    """The rows of a tidy table, such as `results.csv`, that are of one panel and series."""
    wanted = dict(zip(PANEL_KEYS, panel.key, strict=True))
    wanted |= {"metric": panel.metric, "method": series.method, "pretraining": series.pretraining}
    found = with_texts(table, list(wanted))[list(wanted)] == pd.Series(wanted)
    return table[found.all(axis=1)]


def with_texts(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`table` with empty texts where CSV's empty cells were read as NaN."""
    return table.assign(**{name: table[name].astype(object).where(table[name].notna(), "") for name in columns})


def _middle(budgets: pd.Series) -> int | None:
    known = sorted(budgets.dropna().unique())
    return int(known[(len(known) - 1) // 2]) if known else None


def _series(rows: pd.DataFrame) -> Iterator[Series]:
    order = list(METHODS)
    groups = list(rows[rows["mean"].notna()].groupby(["method", "pretraining"], sort=False))
    groups.sort(key=lambda item: order.index(item[0][0]) if item[0][0] in order else len(order))
    for (method, pretraining), group in groups:
        records = group.sort_values("budget")[["budget", *COLUMNS]].to_dict("records")
        points = {record.pop("budget"): Point(**record) for record in records}
        constant = next((points.pop(budget) for budget in list(points) if math.isnan(budget)), None)
        yield Series(
            method=method,
            pretraining=pretraining,
            label=method_label(method, rows["leg"].iloc[0], pretraining),
            role=role_of(method),
            points={int(budget): point for budget, point in points.items()},
            constant=constant,
        )
