"""Rows that belong together."""

from collections.abc import Hashable, Sequence

import numpy as np


def codes(values: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Integers for arbitrary values, in order of first appearance (so that mixed types need no order)."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=int)


def members_of(group_ids: np.ndarray) -> list[np.ndarray]:
    """Ascending rows of each group, by `codes`."""
    order = np.argsort(group_ids, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group_ids[order])) + 1)


def joined(*links: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Groups of rows that are linked by any of several columns, also through others.

    Args:
        links: Columns of N values each; rows with the same value in one are linked, but for empty ones (None, "").

    Returns:
        (N,) index of the first row of each one's group.
    """
    parent = np.arange(len(links[0]))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for column in links:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            if value not in (None, ""):
                a, b = sorted((root(row), root(first.setdefault(value, row))))
                parent[b] = a  # the smaller index stays the root
    return np.array([root(row) for row in range(len(parent))], dtype=int)
