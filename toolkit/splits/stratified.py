"""Splits of whole groups that keep every stratum's share, with labels or without."""

from collections.abc import Hashable, Sequence

import numpy as np

from toolkit.errors import DataError
from toolkit.splits.groups import codes, members_of


def stratified_split(
    groups: Sequence[Hashable] | np.ndarray,
    strata: Sequence[Sequence[Hashable]],
    *,
    share: float,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sets a share of the groups aside so that each value of each column has about that share on both sides.

    Every row goes to one side, with its whole group. Groups that look alike (the same values in every column) are one
    kind; of each kind the test gets its share rounded down, and what is then missing is taken from the kinds that bring
    the columns' counts nearest to their shares, at random where several do.

    Args:
        groups: What must not be split, one value a row: a subject, or a cluster of near-duplicates.
        strata: Columns, each with one value a row, such as sites and labels. A group may have several values of one.
        share: Test share of the groups, above 0 and below 1.
        seed: The split is a function of the arguments and this alone.

    Returns:
        Rows to train on and rows to test on, both ascending.

    Raises:
        DataError: There is only one group.
    """
    assert 0 < share < 1
    members = members_of(codes(groups))
    if len(members) < 2:
        raise DataError("all rows belong to one subject or near-duplicate cluster: there is nothing to split")
    values = [frozenset((column, strata[column][row]) for column in range(len(strata)) for row in m) for m in members]
    kind_of = codes(values)
    num_groups = np.bincount(kind_of)
    kinds = [values[first] for first in np.unique(kind_of, return_index=True)[1]]
    columns = {value: number for number, value in enumerate(dict.fromkeys(v for m in members for v in _in(m, strata)))}
    has = np.zeros((len(kinds), len(columns)))
    for number, kind in enumerate(kinds):
        has[number, [columns[value] for value in kind]] = 1
    has = np.hstack([has, np.eye(len(kinds))])  # a kind is a stratum too

    rng = np.random.default_rng([seed, 0])
    wanted = min(max(1, round(share * len(members))), len(members) - 1)
    target = share * num_groups @ has
    taken = np.floor(share * num_groups).astype(int)
    while taken.sum() < wanted:
        cost = has @ (2 * (taken @ has - target) + 1)  # how the summed squared distance to the target changes
        cost[taken == num_groups] = np.inf
        best = np.flatnonzero(np.isclose(cost, cost.min()))
        taken[rng.choice(best)] += 1
    in_test = np.zeros(len(members), bool)
    for kind, number in enumerate(taken):
        in_test[rng.permutation(np.flatnonzero(kind_of == kind))[:number]] = True
    sides = [np.concatenate([m for m, test in zip(members, in_test, strict=True) if test == side]) for side in (0, 1)]
    return np.sort(sides[0]), np.sort(sides[1])


def _in(rows: np.ndarray, strata: Sequence[Sequence[Hashable]]) -> list[tuple[int, Hashable]]:
    return [(column, strata[column][row]) for row in rows for column in range(len(strata))]
