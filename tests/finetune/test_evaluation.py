"""A study's probes as rows of an evaluation."""

import numpy as np
import pandas as pd
import pytest

from toolkit.finetune.evaluation import probe_evaluation
from toolkit.finetune.results import COLUMNS
from toolkit.statistics import paired_difference, t_interval


@pytest.fixture
def results() -> pd.DataFrame:
    """Two languages, five draws, two baselines; the probe leads the better one in Slovene, and lags in Chinese."""
    rng = np.random.default_rng(0)
    rows = []
    for language, lead in (("sl", 0.1), ("zh", -0.05)):
        hardness = rng.normal(0.5, 0.05, size=5)
        for method, pretraining, shift in (("raw", "none", 0), ("random", "x", -0.1), ("ssl-probe", "x", lead)):
            for draw in range(5):
                names = ("text", "sentiment", language, "", method, pretraining, 8, draw, 0)
                rows += [(*names, "accuracy", hardness[draw] + shift), (*names, "macro_f1", 0.0)]
    rows.append(("text", "sentiment", "sl", "", "majority", "none", None, None, None, "accuracy", 0.5))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_each_language_and_their_mean(results: pd.DataFrame) -> None:
    table = probe_evaluation(results)
    assert set(table["task"]) == {"sentiment, 8 labels a class"} and set(table["metric"]) == {"accuracy"}
    assert table["method"].tolist() == ["encoder", "random", "raw"] * 3
    own = table[table["method"] == "encoder"].set_index("language")
    np.testing.assert_allclose(own.loc[["sl", "zh", "mean"], "ahead"], [0.1, -0.05, 0.025], atol=1e-6)
    assert (own["baseline"] == "raw").all() and table.query("method != 'encoder'")["ahead"].isna().all()


def test_the_mean_is_of_the_same_draws_in_all_languages(results: pd.DataFrame) -> None:
    missing = (results["language"] == "zh") & (results["draw"] == 4)
    row = probe_evaluation(results[~missing]).query("language == 'mean' and method == 'encoder'").iloc[0]
    scores = results.query("metric == 'accuracy' and draw < 4")
    by_draw = {name: part.groupby("draw")["value"].mean().to_numpy() for name, part in scores.groupby("method")}
    expected = t_interval(by_draw["ssl-probe"])
    lead = paired_difference(by_draw["ssl-probe"], by_draw["raw"])
    assert row[["value", "low", "high"]].tolist() == pytest.approx(
        [expected.estimate, expected.low, expected.high], abs=1e-6
    )
    assert row[["ahead", "ahead_low", "ahead_high"]].tolist() == pytest.approx(
        [lead.estimate, lead.low, lead.high], abs=1e-6
    )
    assert row["num_groups"] == 4
