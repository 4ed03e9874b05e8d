"""The order of pretrainings, and how far each is behind, against SciPy on the scores of each draw."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from toolkit.finetune import rank

BUDGETS, NUM_DRAWS = (2, 20), 6
LEVELS = {
    ("ssl-probe", "weak"): 0.5,
    ("ssl-probe", "strong"): 0.7,
    ("ssl-probe", "near"): 0.69,
    ("raw", "none"): 0.6,
    ("random", "none"): 0.505,
    ("scratch", "none"): 0.65,
    ("position", "none"): 0.9,
    ("ssl-finetune", "strong"): 0.95,
    ("external", "public"): 0.75,
}


def results() -> pd.DataFrame:
    """Two tasks; scratch ran at one budget only."""
    rng = np.random.default_rng(0)
    rows = []
    for task in ("lobes, cnn", "lobes, vit"):
        for (method, pretraining), level in LEVELS.items():
            for budget in BUDGETS[1:] if method == "scratch" else BUDGETS:
                for draw in range(NUM_DRAWS):
                    value = level + 0.1 * (budget == 20) + rng.normal(0, 0.01)
                    names = ("scans", task, np.nan, "s02", method, pretraining)
                    rows += [(*names, budget, draw, 0, metric, value) for metric in ("accuracy", "macro_f1")]
    columns = ["leg", "task", "language", "site", "method", "pretraining", "budget", "draw", "seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_the_best_comes_first_and_baselines_have_no_place() -> None:
    table = rank(results())
    first = table[table["task"] == "lobes, cnn"]
    assert first["pretraining"].tolist() == ["public", "strong", "near", "none", "none", "weak"]
    assert first["method"].tolist() == ["external", "ssl-probe", "ssl-probe", "raw", "random", "ssl-probe"]
    assert first["place"].fillna(0).tolist() == [0, 1, 2, 0, 0, 3]
    assert len(table) == 12


def test_scores_and_distances_are_those_of_the_draws() -> None:
    rows = results()
    table = rank(rows).set_index(["task", "method", "pretraining"])
    cells = rows[(rows["metric"] == "accuracy") & (rows["task"] == "lobes, vit")]
    cells = cells[cells["method"].isin(["ssl-probe", "external"])]
    scores = cells.pivot_table(index="draw", columns="pretraining", values="value")  # the mean over budgets
    for name in ("strong", "near", "weak", "public"):
        row = table.loc["lobes, vit", "external" if name == "public" else "ssl-probe", name]
        low, high = stats.t.interval(0.95, NUM_DRAWS - 1, scores[name].mean(), stats.sem(scores[name]))
        assert (row["score"], row["low"], row["high"]) == pytest.approx((scores[name].mean(), low, high), abs=2e-6)
        assert row["num_draws"] == NUM_DRAWS
        assert row["at_20"] == pytest.approx(
            cells[(cells["pretraining"] == name) & (cells["budget"] == 20)]["value"].mean(), abs=2e-6
        )
    for method, name in (("ssl-probe", "weak"), ("external", "public")):
        behind = scores["strong"] - scores[name]
        low, high = stats.t.interval(0.95, NUM_DRAWS - 1, behind.mean(), stats.sem(behind))
        row = table.loc["lobes, vit", method, name]
        found = (row["behind"], row["behind_low"], row["behind_high"])
        assert found == pytest.approx((behind.mean(), low, high), abs=2e-6)
    assert row["behind"] < 0  # ahead of the best
    assert np.isnan(row["over_random"])
    assert np.isnan(table.loc["lobes, vit", "ssl-probe", "strong"]["behind"])


def test_each_pretraining_is_paired_with_random_weights() -> None:
    rows = results()
    table = rank(rows).set_index(["task", "method", "pretraining"])
    cells = rows[(rows["metric"] == "accuracy") & (rows["task"] == "lobes, cnn")]
    scores = cells.pivot_table(index="draw", columns=["method", "pretraining"], values="value")
    for name in ("strong", "weak"):
        lead = scores["ssl-probe", name] - scores["random", "none"]
        low, high = stats.t.interval(0.95, NUM_DRAWS - 1, lead.mean(), stats.sem(lead))
        row = table.loc["lobes, cnn", "ssl-probe", name]
        found = (row["over_random"], row["over_random_low"], row["over_random_high"])
        assert found == pytest.approx((lead.mean(), low, high), abs=2e-6)
    assert row["over_random_low"] < 0
    without = rank(rows[rows["method"] != "random"])
    assert without["over_random"].isna().all()


def test_what_a_method_cost_stands_beside_it_and_one_without_scores_is_listed_last() -> None:
    facts = pd.DataFrame(
        [
            {"task": "lobes, cnn", "pretraining": "weak", "seconds": 60.0, "note": ""},
            {"task": "lobes, cnn", "pretraining": "broken", "seconds": np.nan, "note": "the embeddings collapsed"},
        ]
    )
    table = rank(results(), facts)
    cnn = table[table["task"] == "lobes, cnn"].set_index("pretraining")
    assert cnn.loc["weak", "seconds"] == 60.0
    assert cnn.index[-1] == "broken" and cnn.loc["broken", "note"] == "the embeddings collapsed"
    assert pd.isna(cnn.loc["broken", "place"]) and pd.isna(cnn.loc["broken", "score"])
    assert cnn.loc["broken", ["leg", "site"]].tolist() == ["scans", "s02"]
    assert table["task"].tolist() == ["lobes, cnn"] * 7 + ["lobes, vit"] * 6
