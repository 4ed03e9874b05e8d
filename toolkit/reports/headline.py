"""The study in sentences, computed from its tables alone, and plain when pretraining gained nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from toolkit.reports.names import METRICS, NOT_RUN, count, score
from toolkit.reports.panels import Panel, Point, Series

Verdict = Literal["saved", "unclear", "behind", "not run"]


@dataclass(frozen=True)
class Claim:
    """One task's result at its middle budget.

    Attributes:
        verdict: `saved` if labels saved are shown (`Point.saves_labels`), `behind` if the interval of the paired
            difference with the best baseline lies below zero, else `unclear`.
        work_of: The same in few words where labels were saved, such as "5 labels a class do the work of 13".
        method: Whose result it is, where several pretrainings are compared on the task.
    """

    title: str
    verdict: Verdict
    sentence: str
    work_of: str = ""
    method: str = ""


def claims(panel: Panel) -> list[Claim]:
    """The results of one panel, one of each pretraining."""
    if len(panel.probes) < 2:
        return [claim(panel)]
    return [replace(claim(panel, probe), method=probe.label) for probe in panel.probes]


def claim(panel: Panel, probe: Series | None = None) -> Claim:
    """The result of a pretrained probe, by default the first, at the middle budget against the best baseline there."""
    probe, budget = probe or panel.method("ssl-probe"), panel.middle_budget
    row = probe.at(budget) if probe and budget is not None else None
    if probe is None or row is None:
        return Claim(panel.title, "not run", "The pretrained probe was not run here.")
    metric = METRICS.get(panel.metric, panel.metric)
    reached = score(row.mean, row.low, row.high)
    start = f"With {labels(budget)} a class the {probe.label} reaches {reached} {metric}"
    baseline = panel.method(row.baseline) if row.baseline else panel.best_baseline(budget)
    other = baseline.at(budget) if baseline else None
    if baseline is None or other is None:
        return Claim(panel.title, "unclear", f"{start}; no baseline was run at that budget.")
    outcome = verdict(row.difference_low, row.difference_high)
    rival = f"the best baseline, {baseline.label},"
    difference = score(row.difference, row.difference_low, row.difference_high, sign=True)
    if row.saves_labels(budget):
        needs = _needs(row, budget, rival, other, panel.budgets[-1])
        if (
            max(baseline.points) < panel.budgets[-1]
        ):  # a network that was trained at one budget: who knows how it goes on
            needs += f" ({baseline.label} was not run beyond {max(baseline.points)})"
        beyond = f"more than {panel.budgets[-1]}"
        equal = beyond if math.isinf(row.labels_equal) else count(row.labels_equal)
        work_of = f"{labels(budget)} a class do the work of {equal}"
        return Claim(panel.title, "saved", f"{start}; {needs}.", work_of)
    if outcome == "saved":
        ahead = f"{start}, ahead of {rival.rstrip(',')} (paired difference {difference})"
        return Claim(panel.title, "unclear", f"{ahead}. Labels saved: not shown.")
    if outcome == "behind":
        reached = score(other.mean, other.low, other.high)
        return Claim(panel.title, outcome, f"{start}; {rival} is ahead with {reached}. Labels saved: none.")
    paired = f" (paired difference {difference})" if math.isfinite(row.difference) else ""
    return Claim(
        panel.title,
        outcome,
        f"{start}, not clearly apart from {rival.rstrip(',')}{paired}. Labels saved: none.",
    )


def headline(claims: Sequence[Claim]) -> str:
    """The one sentence at the top: on how many of the tasks, or in how many comparisons, pretraining saved labels."""
    saved = [claim.title for claim in claims if claim.verdict == "saved"]
    each = "in {} comparisons" if any(claim.method for claim in claims) else "on {} tasks"
    if not claims:
        return "No comparison was run"
    if not saved:
        return "In this run, pretraining saved no labels"
    if len(claims) == 1:
        return f"With this pretraining, {claims[0].work_of}"
    if len(saved) == len(claims):
        return f"Pretraining saved labels {each.format(f'all {len(claims)}')}"
    return f"Pretraining saved labels {each.format(f'{len(saved)} of {len(claims)}')}"


def labels(number: float) -> str:
    """`1 label`, `5 labels`."""
    return f"{count(number)} label" + ("" if number == 1 else "s")


def labels_equal(point: Point, budget: int, largest: int) -> str:
    """The baselines' budget that equals the point's score, with its interval; `none` where no saving is shown.

    Args:
        point: Of a pretrained method.
        budget: Its labels a class.
        largest: The largest budget that ran; what lies beyond it is written `> largest`.
    """
    if not point.saves_labels(budget):
        return "none"
    text, low, high = (
        f"> {count(largest)}" if math.isinf(value) else count(value)
        for value in (point.labels_equal, point.labels_equal_low, point.labels_equal_high)
    )
    return text if NOT_RUN in (low, high) or low == high else f"{text} [{low}, {high}]"


def verdict(low: float, high: float) -> Verdict:
    """What the interval of a paired difference with a baseline says."""
    return "saved" if low > 0 else "behind" if high < 0 else "unclear"


def _needs(row: Point, budget: int, rival: str, reached: Point, largest: int) -> str:
    has = f"{rival} has {score(reached.mean, reached.low, reached.high)}"
    if math.isinf(row.labels_equal):
        return f"{has}; the best at each budget does not get there with the {labels(largest)} a class that were tried"
    return f"{has}; the best at each budget needs {labels_equal(row, budget, largest)} labels to get there"
