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


def test_a_baseline_with_few_draws_counts_where_it_is_the_best() -> None:
    """Of the curve with it and the curve without it, the one that grants fewer labels is told."""
    best, worst = summary(scratch=0.65), summary(scratch=0.1)
    assert (best.loc["ssl-probe", 8].baseline, worst.loc["ssl-probe", 8].baseline) == ("scratch", "raw")
    # The probe has 0.74 at 8; raw goes from 0.54 there to 0.70 at 32, scratch has 0.65 at 8: beyond 32 either way.
    assert np.isinf(best.loc["ssl-probe", 8].labels_equal)
    assert best.loc["ssl-probe", 8].labels_saved == "8 labels do what more than 32 would; scratch was not run beyond 8"
    assert worst.loc["ssl-probe", 8].labels_saved == "8 labels do what more than 32 would"
    # At 2 labels the probe has 0.58: raw gets there at 11, and with scratch on the curve at 4.
    fewer, more = best.loc["ssl-probe", 2].labels_equal, worst.loc["ssl-probe", 2].labels_equal
    assert more == pytest.approx(2 ** (0.28 / 0.08), rel=0.1)
    assert fewer == pytest.approx(2 * 4 ** (0.2 / 0.27), rel=0.1)


def test_a_method_with_few_draws_is_held_against_those_that_share_them() -> None:
    tuned = summary(scratch=0.75, rise=0.12).loc["ssl-finetune", 8]
    assert tuned.baseline == "scratch"
    assert tuned.labels_equal == pytest.approx(8 * 4 ** (1 / 3), abs=1.5)  # between scratch's .75 and raw's .9


def test_labels_saved_are_shown_only_where_the_difference_is_too() -> None:
    row = summary(scratch=0.8).loc["ssl-probe", 8]
    assert row.baseline == "scratch" and row.difference_high < 0
    assert np.isnan(row.labels_equal) and row.labels_saved == "none"
    assert "not shown" not in summary(scratch=0.1).loc["ssl-probe", 8].labels_saved
