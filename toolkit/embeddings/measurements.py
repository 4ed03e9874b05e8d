"""Measurements in one form, so that one rule gives all of them their means, intervals and differences.

A table of measurements has the columns `task, language, site, metric` (what was measured), `group` (what is resampled
whole: a message, a document, a word) and `total` and `count`: a value is the sum of the totals over that of the counts.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.files import write_atomically
from toolkit.statistics import Interval, ratio_bootstrap

WHAT = ["task", "language", "site", "metric"]
COLUMNS = [*WHAT, "group", "total", "count"]
LOWER_IS_BETTER = ("bits_per_character", "loss")
MEAN = "mean"
"""Stands for the language of a mean over several."""
SUMMARY_COLUMNS = [
    *WHAT, "method", "pretraining", "value", "low", "high", "num_groups",
    "baseline", "ahead", "ahead_low", "ahead_high",
]  # fmt: skip

Method = tuple[str, str]


def measurements(
    task: str, language: str, site: str, metric: str, group: object, total: object, count: object
) -> pd.DataFrame:
    """Measurements of one task in one language; `group`, `total` and `count` are columns or single values."""
    values = pd.DataFrame({"group": group, "total": np.asarray(total, dtype=float), "count": count})
    return values.assign(task=task, language=language, site=site, metric=metric)[COLUMNS]


def remembered(path: Path, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `measure` gives, kept in a Parquet file: whole or not at all, and read from there the next time.

    Args:
        path: The file; its name should hold a digest of all that the measurements depend on.
        measure: Makes them.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        measure().to_parquet(content, index=False)
        write_atomically(path, content.getvalue())
    return pd.read_parquet(path)


def summarise(measured: Mapping[str, pd.DataFrame], baselines: tuple[str, ...] = ()) -> pd.DataFrame:
    """One row a method for each language of each task, and one for the mean over its languages.

    Args:
        measured: Measurements by pretraining, with a column `method`.
        baselines: Methods that count as baselines. By how much each other one is ahead of the best of them is computed
            on the same groups, so what makes a message hard for both takes no part.

    Returns:
        `value` with its interval `low` and `high` over the groups (empty where there are too few) and `num_groups`; for
        methods that are no baselines also `baseline` (the best one) and `ahead` with `ahead_low` and `ahead_high`,
        above 0 where the method is better.
    """
    every = pd.concat([table.assign(pretraining=name) for name, table in measured.items()], ignore_index=True)
    rows = []
    for (task, site, metric), part in every.groupby(["task", "site", "metric"], sort=False):
        languages = list(dict.fromkeys(part["language"]))
        # A method that lacks a language has no mean.
        by_method = [(names, own) for names, own in part.groupby(["method", "pretraining"], sort=False)]
        for language in languages:
            own = {names: table[table["language"] == language] for names, table in by_method}
            what = {"task": task, "language": language, "site": site, "metric": metric}
            rows += _rows(what, {names: table for names, table in own.items() if len(table)}, baselines)
        if len(languages) > 1:
            what = {"task": task, "language": MEAN, "site": site, "metric": metric}
            whole = {names: table for names, table in by_method if set(table["language"]) == set(languages)}
            rows += _rows(what, whole, baselines)
    return pd.DataFrame(rows).reindex(columns=SUMMARY_COLUMNS).round(6)


def _rows(what: dict[str, str], tables: Mapping[Method, pd.DataFrame], baselines: tuple[str, ...]) -> list[dict]:
    sign = -1 if what["metric"] in LOWER_IS_BETTER else 1
    sums = {names: _by_group(table) for names, table in tables.items()}
    found = {names: _interval(table) for names, table in sums.items()}
    rivals = [names for names in found if names[0] in baselines]
    best = max(rivals, key=lambda names: sign * found[names].estimate, default=None)
    rows = []
    for (method, pretraining), interval in found.items():
        own = sums[method, pretraining]
        row = what | {
            "method": method, "pretraining": pretraining, "value": interval.estimate,
            "low": interval.low, "high": interval.high, "num_groups": len(own),
        }  # fmt: skip
        if best is not None and method not in baselines and own["count"].equals(sums[best]["count"]):
            difference = own.copy()
            difference["total"] = sign * (own["total"] - sums[best]["total"])
            lead = _interval(difference)
            row |= {"baseline": best[0], "ahead": lead.estimate, "ahead_low": lead.low, "ahead_high": lead.high}
        rows.append(row)
    return sorted(rows, key=lambda row: row["method"] in baselines)


def _by_group(table: pd.DataFrame) -> pd.DataFrame:
    """Sums by group (rows) and language (columns) under `total` and `count`."""
    return table.pivot_table(index="group", columns="language", values=["total", "count"], aggfunc="sum", fill_value=0)


def _interval(sums: pd.DataFrame) -> Interval:
    return ratio_bootstrap(sums["total"].to_numpy(), sums["count"].to_numpy())
