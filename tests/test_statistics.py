"""Intervals against scipy, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from toolkit.statistics import MIN_SUBJECTS, labels_saved, paired_difference, subject_bootstrap, t_interval

BUDGETS = (2, 5, 20, 100)


def test_t_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.05, size=10)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    interval = t_interval(values, 0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(values.mean())
    assert np.isnan(t_interval([0.5]).low)


def test_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.normal(0.5, 0.1, size=10)
    ours = theirs + rng.normal(0.02, 0.02, size=10)
    expected = stats.ttest_rel(ours, theirs)
    result = paired_difference(ours, theirs)
    assert result.p_value == pytest.approx(expected.pvalue)
    bounds = expected.confidence_interval()
    assert (result.low, result.high) == pytest.approx((bounds.low, bounds.high))
    assert paired_difference([0.5, 0.5], [0.5, 0.5]).p_value == 1.0
    assert paired_difference([0.75, 0.75], [0.5, 0.5]).p_value == 0.0


def test_t_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(2)
    intervals = [t_interval(rng.normal(size=10)) for _ in range(2000)]
    coverage = np.mean([i.low <= 0 <= i.high for i in intervals])
    assert 0.935 < coverage < 0.965


def test_subject_bootstrap_covers_between_subjects_not_between_samples() -> None:
    rng = np.random.default_rng(3)
    subjects = np.repeat(np.arange(30), 8)
    covered, naive = [], []
    for trial in range(300):
        values = np.repeat(rng.normal(size=30), 8) + 0.1 * rng.normal(size=240)
        interval = subject_bootstrap(values, subjects, num_resamples=400, seed=trial)
        covered.append(interval.low <= 0 <= interval.high)
        one_each = subject_bootstrap(values, np.arange(240), num_resamples=400, seed=trial)
        naive.append(one_each.low <= 0 <= one_each.high)
    assert 0.88 < np.mean(covered) < 0.98
    assert np.mean(naive) < 0.75


def test_subject_bootstrap_is_silent_with_few_subjects() -> None:
    interval = subject_bootstrap(np.arange(12.0), [f"s{i % (MIN_SUBJECTS - 1)}" for i in range(12)])
    assert interval.estimate == 5.5 and np.isnan(interval.low) and np.isnan(interval.high)


def _scores(curve: np.ndarray, level: float, rng: np.random.Generator, noise: float = 0.02) -> tuple:
    """Scores of 10 draws: a common effect of the draw, and noise of each method and budget."""
    draw = rng.normal(0, noise, size=(10, 1))
    return curve + draw + rng.normal(0, noise, size=(10, 4)), level + draw[:, 0] + rng.normal(0, noise, size=10)


CURVE = 0.3 + 0.1 * np.log(BUDGETS)


def test_labels_saved_interpolates_in_the_logarithm() -> None:
    saved = labels_saved(BUDGETS, np.tile(CURVE, (5, 1)), 5, np.full(5, 0.3 + 0.1 * np.log(40)))
    assert saved.equal_budget.estimate == pytest.approx(40, rel=0.01)
    assert saved.is_shown and str(saved) == "5 labels do what 40 would (40 to 40)"


def test_labels_saved_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(4)
    truth = 13.0
    covered, estimates = [], []
    for _ in range(400):
        baseline, ours = _scores(CURVE, 0.3 + 0.1 * np.log(truth), rng)
        equal = labels_saved(BUDGETS, baseline, 5, ours).equal_budget
        if np.isfinite(equal.estimate):
            covered.append(equal.low <= truth <= equal.high)
            estimates.append(equal.estimate)
            assert equal.low <= equal.estimate <= equal.high
    assert len(covered) > 390 and 0.92 < np.mean(covered) < 0.98
    assert np.median(estimates) == pytest.approx(truth, rel=0.1)


def test_labels_saved_is_none_where_pretraining_is_behind() -> None:
    rng = np.random.default_rng(5)
    baseline, ours = _scores(CURVE, CURVE[1] - 0.05, rng, noise=0.005)
    saved = labels_saved(BUDGETS, baseline, 5, ours)
    assert str(saved) == "none" and np.isnan(saved.equal_budget.estimate) and not saved.is_shown


def test_labels_saved_does_not_extrapolate() -> None:
    rng = np.random.default_rng(6)
    baseline, ours = _scores(CURVE, CURVE[-1] + 0.1, rng, noise=0.005)
    saved = labels_saved(BUDGETS, baseline, 20, ours)
    assert saved.equal_budget.estimate == saved.equal_budget.low == np.inf
    assert str(saved) == "20 labels do what more than 100 would"
    baseline, ours = _scores(CURVE, CURVE[-1] - 0.005, rng, noise=0.02)
    assert labels_saved(BUDGETS, baseline, 20, ours).equal_budget.high == np.inf


def test_labels_saved_says_when_a_lead_is_not_shown() -> None:
    rng = np.random.default_rng(7)
    baseline, ours = _scores(CURVE, CURVE[1] + 0.01, rng, noise=0.05)
    ours += baseline[:, 1].mean() + 0.01 - ours.mean()
    saved = labels_saved(BUDGETS, baseline, 5, ours)
    assert not saved.is_shown and str(saved).endswith("not shown")


def test_a_baseline_that_dips_is_made_monotone() -> None:
    dipping = np.tile([0.4, 0.6, 0.5, 0.7], (4, 1)) + np.linspace(0, 0.01, 4)[:, None]
    saved = labels_saved(BUDGETS, dipping, 2, np.full(4, 0.65))
    low, mid = np.log(20), np.log(100)
    expected = np.exp(low + (0.65 - 0.555) / 0.15 * (mid - low))
    assert saved.equal_budget.estimate == pytest.approx(expected, rel=0.02)
