import pandas as pd

from toolkit.reports.panels import panels
from toolkit.reports.score_table import saved_tables, score_table


def test_gaps_best_and_few_draws_are_marked(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table = score_table(panels(tables[1])[0])
    rows = {row.name: row for _, section in table.sections for row in section}
    assert [cell is None for cell in rows["from scratch"].cells] == [True, False, True, True]
    assert rows["from scratch"].draws == "3 draws"
    assert rows["SimCLR probe"].draws == rows["majority class"].draws == ""
    assert all(cell.is_best for cell in rows["SimCLR probe"].cells)
    assert sum(cell is not None and cell.is_best for row in rows.values() for cell in row.cells) == 4
    assert rows["majority class"].cells[0] == rows["majority class"].cells[3]


def test_references_are_never_best(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    summary = tables[1]
    raised = summary.assign(mean=summary["mean"].where(summary["method"] != "position", 0.99))
    rows = {row.name: row for _, section in score_table(panels(raised)[0]).sections for row in section}
    assert not any(cell.is_best for cell in rows["position only"].cells)


def test_differences_name_their_baseline_and_verdict(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scans, *_, indonesian, _ = panels(tables[1])
    probe = dict(score_table(scans).differences)["SimCLR probe"]
    assert {(cell.baseline, cell.verdict) for cell in probe} == {("block means", "saved")}
    behind = dict(score_table(indonesian).differences)["MLM + SimCSE probe"]
    assert {cell.verdict for cell in behind} == {"behind"}
    assert all(cell.mean.startswith("−") for cell in behind)


def test_labels_saved_are_none_where_nothing_was_gained(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scans, text = saved_tables(panels(tables[1]))
    assert scans.budgets == [2, 5, 20, 100] and text.budgets == [8, 32, 128]
    rows = {(task, method): cells for task, method, cells in text.rows}
    assert rows["Indonesian · sentiment", "MLM + SimCSE probe"] == [("none", "")] * 3
    assert [cell is None for cell in rows["English · sentiment", "MLM + SimCSE fine-tuned"]] == [
        True,
        False,
        True,
    ]
    equal, baseline = scans.rows[0][2][-1]
    assert (equal, baseline) == ("> 100", "block means")
