"""The tables that the study writes are those that the report reads."""

from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.finetune.summary import Correct, compare, summarise
from toolkit.reports import Report
from toolkit.reports.page import render

KEYS = ["leg", "task", "language", "site"]
NUM_TESTS = 40


def test_a_page_is_made_of_the_studys_own_tables(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    results = tables[0].astype({"budget": "Int64", "draw": "Int64", "seed": "Int64"})
    rng = np.random.default_rng(0)
    accuracy = results[results["metric"] == "accuracy"]
    by_cell: dict[tuple, dict[int, np.ndarray]] = {}
    for *cell, budget, draw, value in accuracy[[*KEYS, "method", "pretraining", "budget", "draw", "value"]].itertuples(
        index=False
    ):
        key = (*cell, None if pd.isna(budget) else budget)
        by_cell.setdefault(key, {})[draw] = (rng.random(NUM_TESTS) < value).astype(float)
    subjects = {key: np.arange(NUM_TESTS) for key in set(accuracy[KEYS].itertuples(index=False, name=None))}
    written = {"summary": summarise(results, Correct(by_cell, subjects)), "comparisons": compare(results)}
    for name, table in (written | {"results": results}).items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    read = {name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("results", "summary", "comparisons")}
    page = render(Report("study", **read))
    assert "Pretraining saved labels on 3 of 5 tasks" in page
    assert "Against each baseline" in page
    assert "in <i>italics</i>" in page
    in_memory = render(Report("study", results, written["summary"], written["comparisons"]))
    assert in_memory.count("<tr>") == page.count("<tr>")
