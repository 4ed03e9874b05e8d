"""The probe: exact, chosen on labels alone, and indifferent to how wide the features are."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from toolkit.finetune.probe import Probe, ProbeConfig, centre, scalings, standardise

FIXED = ProbeConfig(strengths=(10.0,), default_strength=10.0)


def _data(num_labelled: int, width: int, num_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(num_classes, width))
    labels, test_labels = np.arange(num_labelled) % num_classes, np.arange(60) % num_classes
    rows, test = (means[y] + 1.5 * rng.normal(size=(len(y), width)) for y in (labels, test_labels))
    return *centre(rows, test), labels, test_labels


@pytest.mark.parametrize("width", [5, 200])
def test_it_is_logistic_regression(width: int) -> None:
    rows, test, labels, _ = _data(30, width)
    ours = Probe(FIXED).fit_predict({"": rows}, labels, {"": test}, 3)
    direct = LogisticRegression(C=10.0, max_iter=2000, tol=1e-7).fit(rows, labels).predict_proba(test)
    assert np.allclose(ours, direct, atol=5e-3)


def test_sparse_and_dense_features_give_the_same() -> None:
    rows, test, labels, _ = _data(30, 200)
    dense = Probe().fit_predict({"": rows}, labels, {"": test}, 3)
    sparse = Probe().fit_predict({"": sp.csr_matrix(rows)}, labels, {"": sp.csr_matrix(test)}, 3)
    assert np.allclose(dense, sparse, atol=1e-4)


def test_cross_validation_finds_the_variant_with_signal() -> None:
    rows, test, labels, test_labels = _data(30, 20)
    noise = np.random.default_rng(5)
    labelled = {"noise": noise.normal(size=(30, 20)), "signal": rows}
    tests = {"noise": noise.normal(size=(60, 20)), "signal": test}
    probabilities = Probe().fit_predict(labelled, labels, tests, 3)
    assert np.mean(probabilities.argmax(axis=1) == test_labels) > 0.8
    # Too few labels to choose: the first variant, whatever it is worth.
    few = np.flatnonzero(np.arange(30) < 6)
    default = Probe().fit_predict({k: v[few] for k, v in labelled.items()}, labels[few], tests, 3)
    only = Probe(FIXED).fit_predict({"noise": labelled["noise"][few]}, labels[few], {"noise": tests["noise"]}, 3)
    assert np.array_equal(default, only)


def test_the_choice_does_not_look_at_the_test() -> None:
    rows, test, labels, _ = _data(30, 20)
    noise = np.random.default_rng(5).normal(size=(60, 20)) * 100
    both = Probe().fit_predict({"a": rows, "b": rows[:, :2]}, labels, {"a": test, "b": test[:, :2]}, 3)
    corrupt = Probe().fit_predict({"a": rows, "b": rows[:, :2]}, labels, {"a": test, "b": noise[:, :2]}, 3)
    assert np.array_equal(both, corrupt)  # variant a is the better one on the labels, so b's test rows are not used
    one_row = Probe().fit_predict({"a": rows}, labels, {"a": test[:1]}, 3)
    assert np.allclose(one_row, Probe().fit_predict({"a": rows}, labels, {"a": test}, 3)[:1], atol=1e-6)


def test_classes_without_labels_have_probability_zero() -> None:
    rows, test, labels, _ = _data(30, 8)
    known = labels != 1
    probabilities = Probe().fit_predict({"": rows[known]}, labels[known], {"": test}, 3)
    assert (probabilities[:, 1] == 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_scaling_uses_the_pool_alone_and_makes_rows_of_unit_size() -> None:
    rng = np.random.default_rng(0)
    pool, test = rng.normal(2, (1, 10, 0), size=(50, 3)), rng.normal(size=(9, 3))
    for scale in (centre, standardise):
        scaled, _ = scale(pool, test)
        assert (scaled**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
        assert np.allclose(scaled.mean(axis=0), 0, atol=1e-6)
        assert np.array_equal(scale(pool, test[:4])[1], scale(pool, test)[1][:4])
    assert standardise(pool, test)[0].shape == (50, 2)  # the constant one is dropped
    assert standardise(pool, test)[0].std(axis=0) == pytest.approx([0.5**0.5] * 2, rel=1e-4)
    assert list(scalings({"a": (pool, test), "b": (pool, test)})) == [
        "a",
        "b",
        "a standardised",
        "b standardised",
    ]


def test_constant_features_do_no_harm() -> None:
    pool = np.ones((6, 3))
    probabilities = Probe().fit_predict(
        {"": standardise(pool, pool)[0]}, np.tile([0, 1], 3), {"": standardise(pool, pool)[1]}, 2
    )
    assert np.allclose(probabilities, 0.5, atol=1e-6)
