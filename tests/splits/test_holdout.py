"""Grouped holdouts and nested draws."""

import hashlib

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.splits import holdout, nested_draws, thin


def _grouped(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 150, size=600)
    return rng.choice(4, size=600, p=(0.4, 0.3, 0.2, 0.1)) - 1, groups, groups % 3


@pytest.mark.parametrize("seed", range(5))
def test_holdout_is_balanced_and_splits_no_group(seed: int) -> None:
    labels, groups, strata = _grouped(seed)
    train, test = holdout(labels, groups, strata, per_class=15, seed=seed)
    assert np.bincount(labels[test]).tolist() == [15, 15, 15]
    assert not set(groups[train]) & set(groups[test])
    assert np.any(labels[train] == -1)
    assert np.array_equal(test, np.sort(test)) and np.array_equal(train, np.sort(train))


def test_holdout_represents_the_strata() -> None:
    labels = np.tile([0, 1], 300)
    strata = np.array(["film"] * 400 + ["tweet"] * 200)
    _, test = holdout(labels, np.arange(600), strata, share=0.2, seed=3)
    pairs = list(zip(labels[test].tolist(), strata[test].tolist(), strict=True))
    assert {pair: pairs.count(pair) for pair in set(pairs)} == {
        (0, "film"): 40,
        (1, "film"): 40,
        (0, "tweet"): 20,
        (1, "tweet"): 20,
    }


def test_holdout_is_a_function_of_the_seed() -> None:
    labels, groups, strata = _grouped()
    first, again, other = (holdout(labels, groups, strata, share=0.3, seed=s)[1].tolist() for s in (1, 1, 2))
    assert first == again != other


def test_holdout_does_not_depend_on_what_groups_are_called() -> None:
    labels, groups, strata = _grouped()
    renamed = [hashlib.sha256(str(group).encode()).hexdigest() for group in groups]
    before, after = (holdout(labels, names, strata, share=0.3)[1].tolist() for names in (groups, renamed))
    assert before == after


def test_holdout_refuses_what_cannot_be() -> None:
    with pytest.raises(DataError, match="smallest class has 2"):
        holdout([0, 0, 0, 1, 1], list(range(5)), per_class=2)
    with pytest.raises(
        DataError, match=r"smallest class has 2; raise split\.test_share, or take the class out of label"
    ):
        holdout([0] * 50 + [1] * 2, list(range(52)), share=0.3)
    with pytest.raises(DataError, match="groups are too large"):
        holdout([0, 1] * 10, ["one subject"] * 20, per_class=3)
    with pytest.raises(DataError, match="no sample has a label"):
        holdout([-1, -1], ["a", "b"], share=0.5)


def test_draws_are_nested_stratified_and_independent_of_other_draws() -> None:
    labels = np.repeat([0, 1, 2], (50, 80, 40))
    draw = nested_draws(labels, (2, 5, 20), draw=4, seed=9)
    for budget, chosen in draw.items():
        assert np.bincount(labels[chosen]).tolist() == [budget] * 3
        assert len(set(chosen)) == 3 * budget
    assert set(draw[2]) < set(draw[5]) < set(draw[20])
    assert np.array_equal(nested_draws(labels, (5,), draw=4, seed=9)[5], draw[5])
    assert not np.array_equal(nested_draws(labels, (5,), draw=3, seed=9)[5], draw[5])
    assert not np.array_equal(nested_draws(labels, (5,), draw=4, seed=8)[5], draw[5])


def test_draws_refuse_a_budget_beyond_the_pool() -> None:
    with pytest.raises(DataError, match="class 1 has 3"):
        nested_draws([0] * 9 + [1] * 3, (2, 5), draw=0)


def test_thin_keeps_small_classes_whole() -> None:
    labels = np.repeat([0, 1], (100, 7))
    kept = thin(labels, 10)
    assert np.bincount(labels[kept]).tolist() == [10, 7]
