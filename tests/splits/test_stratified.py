"""Whole groups on one side, and the shares of every column on both."""

from collections import Counter

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.splits import joined, stratified_split


def cohort(seed: int) -> tuple[np.ndarray, list[str], list[str]]:
    """300 groups of one to four rows; sites and labels of unequal size, some unlabelled, some groups at two sites."""
    rng = np.random.default_rng([seed])
    groups = np.repeat(np.arange(300), rng.integers(1, 5, 300))
    site_of = rng.choice(["north", "south", "east", "west"], 300, p=[0.5, 0.3, 0.15, 0.05])
    label_of = rng.choice(["", "benign", "malignant"], 300, p=[0.3, 0.6, 0.1])
    sites = [str(rng.choice(["north", "south"])) if group % 30 == 0 else str(site_of[group]) for group in groups]
    return groups, sites, [str(label_of[group]) for group in groups]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_every_row_is_on_one_side_with_its_group_and_strata_keep_their_shares(seed: int, share: float) -> None:
    groups, sites, labels = cohort(seed)
    train, test = stratified_split(groups, [sites, labels], share=share, seed=seed)
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert not set(groups[train]) & set(groups[test])
    assert len(set(groups[test])) == round(share * 300)
    for column in (sites, labels):
        of_all = Counter({(group, value) for group, value in zip(groups, column, strict=True)})
        whole = Counter(value for _, value in of_all)
        tested = Counter(value for group, value in of_all if group in set(groups[test]))
        for value, count in whole.items():
            assert abs(tested[value] - share * count) <= 1.5, (value, count, tested[value])


def test_many_small_strata_do_not_all_fall_on_the_first_sites() -> None:
    """Two subjects in each of 100 cells: no cell can be parted 4 to 1, but sites and labels can."""
    groups = np.arange(200)
    sites, labels = groups // 20, groups % 10
    for seed in range(3):
        _, test = stratified_split(groups, [sites.tolist(), labels.tolist()], share=0.2, seed=seed)
        for column in (sites, labels):
            assert set(np.bincount(column[test]).tolist()) == {4}
        assert max(Counter(zip(sites[test], labels[test], strict=True)).values()) == 1


def test_without_columns_it_is_a_plain_draw_by_group() -> None:
    groups = np.repeat(np.arange(50), 2)
    first, again, other = (stratified_split(groups, [], share=0.3, seed=seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 30


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_neither_side_is_empty(share: float) -> None:
    train, test = stratified_split([0, 0, 1], [], share=share)
    assert len(train) and len(test)
    with pytest.raises(DataError, match="nothing to split"):
        stratified_split([4, 4, 4], [], share=share)


def test_links_through_others_join() -> None:
    subjects = ["a", "b", "c", "d", "e", "a"]
    hashes = ["1", "2", "2", "", "", "9"]
    near = [0, 1, 2, 3, 4, 3]  # the second scan of a shows what d's does
    assert joined(subjects, hashes, near).tolist() == [0, 1, 1, 0, 4, 0]
    assert joined(["", ""]).tolist() == [0, 1]  # unknown is no link
