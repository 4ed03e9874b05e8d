"""Synthetic tables with all that real ones hold: five tasks, methods that ran at one budget only, gaps."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from toolkit.reports import Report

GAIN = {"": 0.24, "en": 0.03, "zh": 0.07, "id": -0.08, "sl": 0.0}  # by language; scans have none
START = {"raw": 0.37, "pca": 0.35, "kmeans": 0.33, "random": 0.30, "scratch": 0.31, "majority": 0.16}
START |= {"position": 0.48, "external": 0.5}
METHODS = (*START, "ssl-probe", "ssl-finetune")
METRICS = {"accuracy": 0.0, "macro_f1": -0.03, "auroc": 0.12}
NUM_DRAWS = 10
TASK = ["leg", "task", "language", "site", "metric"]
CELL = ["method", "pretraining", "budget"]


def study_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, summary) as the study writes them."""
    rng = np.random.default_rng(7)
    rows = []
    for language, method in product(GAIN, METHODS):
        leg, task, budgets, offset = ("text", "sentiment", [8, 32, 128], 0.16)
        if not language:
            leg, task, budgets, offset = ("scans", "lobes", [2, 5, 20, 100], 0.0)
        if method == {"text": "position", "scans": "external"}[leg]:
            continue
        first, middle = budgets[0], budgets[1]
        budgets = {"majority": [np.nan], "scratch": [middle], "ssl-finetune": [middle]}.get(method, budgets)
        num_draws = {"majority": 1, "scratch": 3, "ssl-finetune": 3}.get(method, NUM_DRAWS)
        pretraining = {"text": "mlm+simcse", "scans": "simclr"}[leg] if "ssl" in method else "none"
        for budget, draw, (metric, shift) in product(budgets, range(num_draws), METRICS.items()):
            level = START.get(method, START["raw"] + GAIN[language]) + offset + shift
            level += 0 if method == "majority" else 0.045 * np.log2(budget / first)
            value = float(np.clip(level + rng.normal(0, 0.02), 0, 1))
            rows.append((leg, task, language, "", method, pretraining, budget, draw, 0, metric, value))
    columns = ["leg", "task", "language", "site", *CELL, "draw", "seed", "metric", "value"]
    results = pd.DataFrame(rows, columns=columns)
    return results, summarise(results)


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """A summary with normal intervals and interpolated labels saved: all that a page needs to be drawn."""
    rows = []
    for names, group in results.groupby(TASK, sort=False):
        cells = group.groupby(CELL, sort=False, dropna=False)["value"].apply(np.array)
        for (method, pretraining, budget), values in cells.items():
            mean, low, high = interval(values)
            row = dict(zip([*TASK, *CELL], (*names, method, pretraining, budget), strict=True))
            row |= {"num_draws": len(values), "mean": mean, "low": low, "high": high}
            if method.startswith("ssl"):
                row |= comparison(cells, budget, values)
            rows.append(row)
    return pd.DataFrame(rows)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    half = 2.26 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return values.mean(), values.mean() - half, values.mean() + half


def comparison(cells: pd.Series, budget: float, values: np.ndarray) -> dict[str, float | str]:
    best = max(("raw", "pca", "kmeans", "random"), key=lambda name: cells[name, "none", budget].mean())
    difference = interval(values - cells[best, "none", budget][: len(values)])
    x, y = zip(*[(b, v.mean()) for (name, _, b), v in cells.items() if name == best], strict=True)
    equal = [np.exp(np.interp(score, y, np.log(x), right=np.inf)) for score in interval(values)]
    keys = ["difference", "difference_low", "difference_high"]
    keys += ["labels_equal", "labels_equal_low", "labels_equal_high"]
    return {"baseline": best, **dict(zip(keys, (*difference, *equal), strict=True))}


@pytest.fixture(scope="session")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return study_tables()


@pytest.fixture(scope="session")
def report(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Report:
    return Report("test", *tables)
