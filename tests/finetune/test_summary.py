"""What the summary says of labels saved where the baselines ran with different numbers of draws."""

import numpy as np
import pandas as pd
import pytest

from toolkit.finetune.summary import Correct, summarise

NUM_DRAWS = {"raw": 10, "scratch": 3, "ssl-probe": 10, "ssl-finetune": 3}


def summary(scratch: float, rise: float = 0.08) -> pd.DataFrame:
    """Raw rises with every doubling and the probe is 0.2 above it; the networks ran at 8 labels alone."""
    rng = np.random.default_rng([0])
    rows = []
    for method, num_draws in NUM_DRAWS.items():
        for budget in (2, 8, 32) if num_draws == 10 else (8,):
            level = {"scratch": scratch, "ssl-finetune": 0.8}.get(method, 0.3 + rise * np.log2(budget))
            for draw in range(num_draws):
                value = level + 0.2 * (method == "ssl-probe") + rng.normal(0, 0.01)
                rows.append(("text", "t", "en", "", method, "", budget, draw, 0, "auroc", value))
    names = ["leg", "task", "language", "site", "method", "pretraining", "budget", "draw", "seed", "metric", "value"]
    return summarise(pd.DataFrame(rows, columns=names), Correct({}, {})).set_index(["method", "budget"])


def test_a_baseline_with_few_draws_takes_none_from_labels_saved() -> None:
    columns = ["labels_equal", "labels_equal_low", "labels_equal_high", "labels_saved"]
    best, worst = summary(scratch=0.6), summary(scratch=0.1)
    assert (best.loc["ssl-probe", 8].baseline, worst.loc["ssl-probe", 8].baseline) == ("scratch", "raw")
    pd.testing.assert_frame_equal(best.loc["ssl-probe", columns], worst.loc["ssl-probe", columns])


def test_a_method_with_few_draws_is_held_against_those_that_share_them() -> None:
    tuned = summary(scratch=0.75, rise=0.12).loc["ssl-finetune", 8]
    assert tuned.baseline == "scratch"
    assert tuned.labels_equal == pytest.approx(8 * 4 ** (1 / 3), abs=1.5)  # between scratch's .75 and raw's .9


def test_labels_saved_are_shown_only_where_the_difference_is_too() -> None:
    row = summary(scratch=0.8).loc["ssl-probe", 8]
    assert row.baseline == "scratch" and row.difference_high < 0
    assert row.labels_equal_low > 8
    assert row.labels_saved.endswith(", not shown")
    assert "not shown" not in summary(scratch=0.1).loc["ssl-probe", 8].labels_saved
