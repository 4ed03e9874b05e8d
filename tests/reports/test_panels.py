import io

import pandas as pd
import pytest

from toolkit.errors import DataError
from toolkit.reports.panels import panels


def test_each_task_is_a_panel_in_the_order_of_the_table(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = panels(tables[1])
    assert [panel.title for panel in found] == [
        "Scans · lobes",
        "English · sentiment",
        "Chinese · sentiment",
        "Indonesian · sentiment",
        "Slovene · sentiment",
    ]
    assert found[0].budgets == [2, 5, 20, 100]
    assert found[0].middle_budget == 5


def test_trained_methods_have_the_middle_budget_only(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scratch = panels(tables[1])[0].method("scratch")
    assert scratch.at(2) is None
    assert scratch.at(5).mean > 0


def test_a_method_without_budget_is_the_same_at_each(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    majority = panels(tables[1])[0].method("majority")
    assert majority.at(2).mean == majority.at(100).mean


def test_best_baseline_is_neither_floor_nor_reference(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    summary = tables[1]
    raised = summary.assign(mean=summary["mean"].where(~summary["method"].isin(["position", "majority"]), 0.99))
    assert panels(raised)[0].best_baseline(5).method == "raw"


def test_a_summary_read_back_from_csv_gives_the_same_panels(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    again = pd.read_csv(io.StringIO(tables[1].to_csv(index=False)))
    assert [panel.key for panel in panels(again)] == [panel.key for panel in panels(tables[1])]


def test_a_missing_column_or_metric_is_named(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with pytest.raises(DataError, match="column budget is missing"):
        panels(tables[1].drop(columns="budget"))
    with pytest.raises(DataError, match="no row of metric recall; it has accuracy, auroc, macro_f1"):
        panels(tables[1], "recall")
