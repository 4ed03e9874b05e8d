"""Pretrainings in the order of their label-efficiency, each with its distance from the best one."""

import pandas as pd

from toolkit.finetune.methods import BASELINES
from toolkit.finetune.summary import TASK
from toolkit.statistics import paired_difference, t_interval

PROBE, EXTERNAL, RANDOM = "ssl-probe", "external", ("random", "none")
COLUMNS = [
    *TASK, "place", "method", "pretraining", "num_draws", "score", "low", "high",
    "behind", "behind_low", "behind_high", "over_random", "over_random_low", "over_random_high",
]  # fmt: skip


def rank(results: pd.DataFrame, facts: pd.DataFrame | None = None, metric: str = "accuracy") -> pd.DataFrame:
    """One row a pretraining, baseline and public model of each task, best first.

    The score of a draw is the mean over the budgets: the height of the label-efficiency curve over the logarithm of the
    labels, where budgets are spaced evenly in it. Methods that did not run at every budget, such as networks that are
    trained at one, are left out. Public models stand beside the others and take no place: they saw other data.

    Args:
        results: The rows of `results.csv`.
        facts: More of each pretraining, by `task` and `pretraining`, such as what it cost; one that is not among the
            results is listed below the others.
        metric: Which one counts.

    Returns:
        The columns of a task, then `place` (pretrainings only, from 1), `method`, `pretraining`, `num_draws`, `score`
        with its t interval over draws `low` and `high`, `behind` with `behind_low` and `behind_high` (by how much the
        best pretraining leads, paired by draw; below 0 where a public model is ahead of it; empty for the best and
        baselines), `over_random` with its interval (by how much a pretraining leads the network's random weights, where
        those ran), and `at_BUDGET`, the mean at each budget; then the facts.
    """
    rows = []
    contest = results[(results["metric"] == metric) & results["method"].isin([PROBE, *BASELINES, EXTERNAL])]
    for task, part in contest.groupby(TASK, sort=False, dropna=False):
        budgets = sorted(part["budget"].dropna().unique())
        curves = {}
        for names, cells in part.groupby(["method", "pretraining"], sort=False):
            curve = cells.pivot_table(index="draw", columns="budget", values="value").reindex(columns=budgets)
            if len(curve := curve.dropna()):
                curves[names] = curve
        order = sorted(curves, key=lambda names: -curves[names].to_numpy().mean())
        pretrained = [names for names in order if names[0] == PROBE]
        for names in order:
            scores = curves[names].mean(axis=1)
            interval = t_interval(scores.to_numpy())
            row = dict(zip(TASK, task, strict=True)) | {
                "place": pretrained.index(names) + 1 if names in pretrained else None,
                "method": names[0], "pretraining": names[1], "num_draws": len(scores),
                "score": interval.estimate, "low": interval.low, "high": interval.high,
            }  # fmt: skip
            if names in pretrained[1:] or (names[0] == EXTERNAL and pretrained):
                row |= _lead("behind", curves[pretrained[0]].mean(axis=1), scores)
            if names in pretrained and RANDOM in curves:
                row |= _lead("over_random", scores, curves[RANDOM].mean(axis=1))
            means = curves[names].mean(axis=0)
            rows.append(row | {f"at_{int(budget)}": means[budget] for budget in budgets})
    table = pd.DataFrame(rows)
    at = [name for name in table if name.startswith("at_")]
    table = table.reindex(columns=[*COLUMNS, *at]).astype({"place": "Int64"}).round(6)
    return table if facts is None else _with_facts(table, facts.assign(method=PROBE))


def _lead(name: str, ours: pd.Series, theirs: pd.Series) -> dict[str, float]:
    """By how much `ours` is above `theirs`, paired by draw."""
    common = ours.index.intersection(theirs.index)
    lead = paired_difference(ours[common].to_numpy(), theirs[common].to_numpy())
    return {name: lead.estimate, f"{name}_low": lead.low, f"{name}_high": lead.high}


def _with_facts(table: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    keys = ["task", "method", "pretraining"]
    known = table.merge(facts, on=keys, how="left")
    absent = facts[~facts.set_index(keys).index.isin(table.set_index(keys).index)]
    tasks = table[TASK].drop_duplicates("task")
    rows = pd.concat([known, tasks.merge(absent, on="task")], ignore_index=True)
    order = {task: number for number, task in enumerate(tasks["task"])}
    return rows.sort_values("task", key=lambda task: task.map(order), kind="stable", ignore_index=True)
