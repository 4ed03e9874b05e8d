"""Means, intervals and paired differences of measurements."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolkit.embeddings.measurements import measurements, remembered, summarise
from toolkit.statistics import ratio_bootstrap


def two_languages(shift: float = 0.0, metric: str = "accuracy", seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    groups = [f"g{i}" for i in range(60)]
    hits = rng.random(60) < 0.5
    return pd.concat(
        [
            measurements("found", "sl", "card", metric, groups, hits + shift, 1),
            measurements("found", "zh", "card", metric, groups[:30], 3 * hits[:30] + 3 * shift, 3),
        ]
    )


def test_values_are_ratios_of_sums_and_the_mean_is_over_languages() -> None:
    table = two_languages()
    summary = summarise({"x": table.assign(method="encoder")}).set_index("language")
    for language in ("sl", "zh"):
        own = table[table["language"] == language]
        assert summary.loc[language, "value"] == pytest.approx(own["total"].sum() / own["count"].sum(), abs=1e-6)
    assert summary.loc["mean", "value"] == pytest.approx(summary.loc[["sl", "zh"], "value"].mean(), abs=1e-6)
    assert (summary["low"] < summary["value"]).all() and (summary["value"] < summary["high"]).all()
    assert summary.loc["mean", "num_groups"] == 60


def test_a_constant_lead_has_an_interval_of_no_width() -> None:
    measured = {"none": two_languages().assign(method="raw"), "x": two_languages(0.1).assign(method="encoder")}
    summary = summarise(measured, baselines=("raw",))
    lead = summary[summary["method"] == "encoder"]
    np.testing.assert_allclose(lead[["ahead", "ahead_low", "ahead_high"]], 0.1, atol=1e-6)
    assert (lead["baseline"] == "raw").all()
    assert summary[summary["method"] == "raw"]["ahead"].isna().all()
    assert summary["method"].tolist() == ["encoder", "raw"] * 3  # encoders first


def test_lower_is_better_for_bits_and_the_best_baseline_is_the_rival() -> None:
    bits = {
        name: two_languages(shift, "bits_per_character").assign(method=method)
        for name, shift, method in (("a", 1.0, "raw"), ("b", 2.0, "random"), ("x", 0.5, "encoder"))
    }
    lead = summarise(bits, baselines=("raw", "random")).query("method == 'encoder'")
    np.testing.assert_allclose(lead["ahead"], 0.5, atol=1e-6)
    assert set(lead["baseline"]) == {"raw"}


def test_what_was_measured_on_other_groups_is_not_compared() -> None:
    measured = {
        "none": two_languages().assign(method="raw"),
        "x": two_languages().query("language == 'sl'").iloc[:40].assign(method="encoder"),
    }
    summary = summarise(measured, baselines=("raw",)).query("method == 'encoder'")
    assert summary["ahead"].isna().all()
    assert summary["language"].tolist() == ["sl"]  # no mean without zh


def test_the_bootstrap_takes_a_group_with_all_its_languages() -> None:
    """Columns that say the same add nothing to what one says; columns that are independent do."""
    rng = np.random.default_rng(1)
    one = rng.normal(size=(100, 1))
    width = [
        np.ptp(np.array([interval.low, interval.high]))
        for interval in (
            ratio_bootstrap(columns, np.ones_like(columns))
            for columns in (one, np.hstack([one, one]), np.hstack([one, rng.normal(size=(100, 1))]))
        )
    ]
    assert width[1] == pytest.approx(width[0]) and width[2] < 0.8 * width[0]


def test_few_groups_give_no_interval() -> None:
    interval = ratio_bootstrap(np.ones((30, 2)), np.column_stack([np.ones(30), np.arange(30) < 19]))
    assert np.isnan(interval.low) and np.isnan(interval.high)


def test_what_was_measured_is_read_from_there(tmp_path: Path) -> None:
    calls = []

    def measure() -> pd.DataFrame:
        calls.append(1)
        return two_languages()

    first, second = (remembered(tmp_path / "kept" / "a.parquet", measure) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert len(calls) == 1
    with pytest.raises(RuntimeError):
        remembered(tmp_path / "kept" / "b.parquet", lambda: (_ for _ in ()).throw(RuntimeError))
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["a.parquet"]
