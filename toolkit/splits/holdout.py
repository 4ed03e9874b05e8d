"""Grouped holdouts that are balanced by class, and nested draws of labels."""

from collections.abc import Hashable, Sequence

import numpy as np

from toolkit.errors import DataError
from toolkit.splits.groups import codes, members_of

UNLABELLED = -1


def holdout(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[Hashable] | np.ndarray,
    strata: Sequence[Hashable] | np.ndarray | None = None,
    *,
    share: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sets a test set aside that is balanced by class; no group is ever on both sides.

    Every class gets the same number of test samples, spread over the strata in proportion to the class's own
    numbers there. Groups are taken whole, in random order. What a chosen group has beyond the numbers wanted
    is on neither side: it may not be trained on, and would tip the balance of the test.

    Args:
        labels: Class of each sample, 0 to K - 1; -1 where unknown. Unlabelled samples are trained on unless
            their group is tested on.
        groups: What must not be split, one value a sample: a subject, a document, a near-duplicate cluster.
        strata: What the test should represent as the whole does, one value a sample, such as domain or site.
        share: Test share of the smallest class, between 0 and 1. Give this or `per_class`.
        per_class: Test samples of each class.
        seed: The split is a function of the arguments and this alone.

    Returns:
        Indices to train on and indices to test on, both ascending.

    Raises:
        DataError: A class has too few samples or too few groups for the test that was asked for.
    """
    assert (share is None) != (per_class is None), "give share or per_class"
    labels = np.asarray(labels)
    group_ids = codes(groups)
    stratum_ids = np.zeros(len(labels), dtype=int) if strata is None else codes(strata)
    classes, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    if not len(classes):
        raise DataError("no sample has a label: a test set needs labels")
    if per_class is None:
        per_class = int(share * counts.min())
    if not 1 <= per_class < counts.min():
        remedy = "ask for fewer (at least 1)" if share is None else "raise split.test_share"
        raise DataError(
            f"a test of {per_class} samples a class is not possible: the smallest class has {counts.min()}; "
            f"{remedy}, or take the class out of label_map"
        )

    cells = stratum_ids * (labels.max() + 1) + labels  # one number for each pair of stratum and class
    wanted = _quotas(labels, cells, classes, per_class)
    rng = np.random.default_rng([seed, 0])
    members = members_of(group_ids)
    order = rng.permutation(len(members))
    in_test = np.zeros(len(labels), dtype=bool)
    touched = np.zeros(len(labels), dtype=bool)
    for whole_only in (True, False):  # groups that fit without waste first
        for group in order:
            rows = members[group]
            if touched[rows[0]]:
                continue
            labelled = rows[labels[rows] != UNLABELLED]
            fitting = []
            room = dict(wanted)
            for row in labelled:
                if room[cells[row]] > 0:
                    room[cells[row]] -= 1
                    fitting.append(row)
            if not fitting or (whole_only and len(fitting) < len(labelled)):
                continue
            wanted = room
            in_test[fitting] = True
            touched[rows] = True
    train = np.flatnonzero(~touched)
    left = np.bincount(labels[train][labels[train] != UNLABELLED], minlength=classes.max() + 1)[classes]
    if any(wanted.values()) or not left.all():
        raise DataError(
            f"groups are too large to hold {per_class} samples a class out and have samples of every class "
            "left to train on; ask for a smaller test"
        )
    return train, np.flatnonzero(in_test)


def nested_draws(
    labels: Sequence[int] | np.ndarray, budgets: Sequence[int], *, draw: int, seed: int = 0
) -> dict[int, np.ndarray]:
    """The labelled samples of one draw at each budget, the smaller within the larger.

    Each class is shuffled once for a draw and a budget takes the first of it, so that a curve over budgets
    adds labels to those it had. A pure function of the labels, `seed` and `draw`: other draws and budgets do
    not matter.

    Args:
        labels: Class of each sample of the pool, 0 to K - 1.
        budgets: Labels a class.
        draw: Which draw, from 0.
        seed: Seed of all draws.

    Returns:
        Ascending pool indices by budget.

    Raises:
        DataError: A class has fewer samples than a budget asks for.
    """
    labels = np.asarray(labels)
    classes, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    if not len(classes) or counts.min() < max(budgets):
        smallest = f"class {classes[counts.argmin()]} has {counts.min()}" if len(classes) else "there are none"
        raise DataError(f"a budget of {max(budgets)} labels a class needs as many in the pool, but {smallest}")
    shuffled = [np.random.default_rng([seed, draw, int(c)]).permutation(np.flatnonzero(labels == c)) for c in classes]
    return {budget: np.sort(np.concatenate([rows[:budget] for rows in shuffled])) for budget in budgets}


def thin(labels: Sequence[int] | np.ndarray, per_class: int, *, seed: int = 0) -> np.ndarray:
    """At most `per_class` random samples of each class: ascending indices; classes with fewer keep all."""
    labels = np.asarray(labels)
    rng = np.random.default_rng([seed, 1])
    kept = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)]
    return np.sort(np.concatenate(kept))


def _quotas(labels: np.ndarray, cells: np.ndarray, classes: np.ndarray, per_class: int) -> dict[int, int]:
    """Test samples wanted of each cell: `per_class` a class, over its strata by largest remainder."""
    quotas = {}
    for c in classes:
        names, counts = np.unique(cells[labels == c], return_counts=True)
        exact = per_class * counts / counts.sum()
        whole = np.floor(exact).astype(int)
        whole[np.argsort(whole - exact, kind="stable")[: per_class - whole.sum()]] += 1
        quotas |= dict(zip(names.tolist(), whole.tolist(), strict=True))
    return quotas
