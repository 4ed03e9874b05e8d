"""What the measurements say: means with intervals, the paired difference with the best baseline, labels
saved.

The *best baseline* is chosen anew at each budget, by its mean on the test set itself. That favours the
baselines: the largest of several noisy means is too high on average, so the difference and the labels saved
are stated too low rather than too high. In the paired difference a baseline that ran with fewer draws (scratch)
takes part by the mean of those it has, and is then compared on the draws that both have.

Labels saved are read from two curves: of the baselines that have all of the pretrained method's draws, and of all
baselines on the draws that they share (scratch has few). The one that grants fewer labels counts. Where the best
baseline was not run at larger budgets, as scratch in a short study, the words say so.

Labels saved are *shown* where two intervals agree: the paired difference lies above zero, and the labels that
the baselines need lie above the budget. Elsewhere `labels_saved` says `not shown`, and reports claim nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from toolkit.finetune.methods import BASELINES
from toolkit.statistics import LabelsSaved, labels_saved, paired_difference, subject_bootstrap, t_interval

TASK = ["leg", "task", "language", "site"]
NOT_COMPARED = (*BASELINES, "majority", "position", "external")


@dataclass(frozen=True)
class Correct:
    """Which test samples were classified rightly, for intervals over subjects.

    Attributes:
        by_cell: For (leg, task, language, site, method, pretraining, budget), by draw: shares of seeds, (M,).
        subjects: For (leg, task, language, site): the subject or group of each test sample, (M,).
    """

    by_cell: Mapping[tuple, Mapping[int, np.ndarray]]
    subjects: Mapping[tuple, np.ndarray]


def summarise(results: pd.DataFrame, correct: Correct) -> pd.DataFrame:
    """The rows of `summary.csv`, one for each task, method, budget and metric.

    Args:
        results: The rows of `results.csv`.
        correct: For the intervals over test subjects, which accuracy alone has.

    Returns:
        `num_draws, mean, std, low, high`: over draws, t interval. `subjects_low, subjects_high`: bootstrap
        over test subjects, empty where there are too few. For pretrained methods also `baseline` (the best
        one), `difference` with its two intervals and `p_value`, and `labels_equal`: the labels a class that
        the baselines need, `inf` where more than were tried, empty where pretraining is not ahead or no
        baseline has its draws; `labels_saved` says it in words.
    """
    rows = []
    for names, part in results.groupby([*TASK, "metric"], sort=False):
        task, metric = names[:-1], names[-1]
        scores = _scores(part)
        best = _best_baselines(scores)
        for (method, pretraining, budget), values in scores.items():
            interval = t_interval(values.to_numpy())
            row = dict(zip(TASK, task, strict=True)) | {
                "method": method, "pretraining": pretraining, "budget": budget, "metric": metric,
                "num_draws": len(values), "mean": interval.estimate, "std": values.std(ddof=1),
                "low": interval.low, "high": interval.high,
            }  # fmt: skip
            ours = correct.by_cell[*task, method, pretraining, budget] if metric == "accuracy" else {}
            if ours:
                over = subject_bootstrap(np.mean(list(ours.values()), axis=0), correct.subjects[task])
                row |= {"subjects_low": over.low, "subjects_high": over.high}
            if method not in NOT_COMPARED and budget in best:
                theirs = correct.by_cell[*task, *best[budget], budget] if ours else {}
                row |= _comparison(scores, method, pretraining, budget, best)
                if common := sorted(ours.keys() & theirs.keys()):
                    lead = np.mean([ours[draw] - theirs[draw] for draw in common], axis=0)
                    over = subject_bootstrap(lead, correct.subjects[task])
                    row |= {"difference_subjects_low": over.low, "difference_subjects_high": over.high}
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=SUMMARY_COLUMNS)
    return table.astype({"budget": "Int64"}).round(6)


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of `comparisons.csv`: each pretrained method against every baseline, paired by draw."""
    rows = []
    for names, part in results.groupby([*TASK, "metric"], sort=False):
        scores = _scores(part)
        for (method, pretraining, budget), ours in scores.items():
            for (other, _, other_budget), theirs in scores.items():
                if method in NOT_COMPARED or other not in BASELINES or other_budget != budget:
                    continue
                a, b = _paired(ours, theirs)
                result = paired_difference(a, b)
                measured = (len(a), result.estimate, result.low, result.high, result.p_value)
                rows.append((*names[:-1], method, pretraining, budget, names[-1], other, *measured))
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS).round(6)


Scores = dict[tuple[str, str, int | None], pd.Series]


def _scores(part: pd.DataFrame) -> Scores:
    """Values by draw (means over seeds) for each method, pretraining and budget (None where it has none)."""
    scores: Scores = {}
    for (method, pretraining, budget), cell in part.groupby(
        ["method", "pretraining", "budget"], sort=False, dropna=False
    ):
        key = (method, pretraining, None if pd.isna(budget) else int(budget))
        scores[key] = cell.groupby("draw", dropna=False)["value"].mean().dropna()
    return {key: values for key, values in scores.items() if len(values)}


def _best_baselines(scores: Scores) -> dict[int, tuple[str, str]]:
    """(method, pretraining) with the highest mean at each budget."""
    best: dict[int, tuple[str, str]] = {}
    for (method, pretraining, budget), values in scores.items():
        if method not in BASELINES or budget is None:
            continue
        if budget not in best or values.mean() > scores[*best[budget], budget].mean():
            best[budget] = (method, pretraining)
    return best


def _comparison(
    scores: Scores, method: str, pretraining: str, budget: int, best: Mapping[int, tuple[str, str]]
) -> dict[str, float | str]:
    ours = scores[method, pretraining, budget]
    difference = paired_difference(*_paired(ours, scores[*best[budget], budget]))
    row: dict[str, float | str] = {
        "baseline": best[budget][0], "difference": difference.estimate, "difference_low": difference.low,
        "difference_high": difference.high, "p_value": difference.p_value,
    }  # fmt: skip
    whole = _best_baselines({key: values for key, values in scores.items() if ours.index.isin(values.index).all()})
    curves = [_labels_saved(scores, curve, budget, ours) for curve in (whole, best) if budget in curve]
    if not curves:
        return row
    saved = min(curves, key=lambda saved: np.nan_to_num(saved.equal_budget.estimate, nan=-1, posinf=np.inf))
    equal, words = saved.equal_budget, str(saved)
    if saved.is_shown and not difference.low > 0:
        words += ", not shown"
    last = max(b for name, pretraining, b in scores if (name, pretraining) == best[budget] and b is not None)
    if last < max(best) and not np.isnan(equal.estimate):
        words += f"; {best[budget][0]} was not run beyond {last}"
    return row | {
        "labels_equal": equal.estimate, "labels_equal_low": equal.low, "labels_equal_high": equal.high,
        "labels_saved": words,
    }  # fmt: skip


def _labels_saved(scores: Scores, curve: Mapping[int, tuple[str, str]], budget: int, ours: pd.Series) -> LabelsSaved:
    """Against `curve`, a baseline for each budget, on the draws that all of it shares with `ours`."""
    budgets = sorted(curve)
    draws = ours.index
    for b in budgets:
        draws = draws.intersection(scores[*curve[b], b].index)
    theirs = np.stack([scores[*curve[b], b][draws] for b in budgets], axis=1)
    return labels_saved(budgets, theirs, budget, ours[draws].to_numpy())


def _paired(ours: pd.Series, theirs: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    common = ours.index.intersection(theirs.index)
    return ours[common].to_numpy(), theirs[common].to_numpy()


SUMMARY_COLUMNS = [
    *TASK, "method", "pretraining", "budget", "metric",
    "num_draws", "mean", "std", "low", "high", "subjects_low", "subjects_high",
    "baseline", "difference", "difference_low", "difference_high", "p_value",
    "difference_subjects_low", "difference_subjects_high",
    "labels_equal", "labels_equal_low", "labels_equal_high", "labels_saved",
]  # fmt: skip
COMPARISON_COLUMNS = [
    *TASK, "method", "pretraining", "budget", "metric",
    "baseline", "num_draws", "difference", "difference_low", "difference_high", "p_value",
]  # fmt: skip
