"""Percentiles of the voxels under a mask, by counting: a copy of these voxels would be as large as the scan."""

from collections.abc import Sequence

import numpy as np

_HALF = 1 << 16
_BLOCK = 1 << 16  # so many voxels are looked at at once, and copied


def percentiles(array: np.ndarray, mask: np.ndarray, wanted: Sequence[float]) -> list[float]:
    """`np.percentile(array[mask], wanted)`, the same numbers, in little memory.

    The bit patterns of float32, turned so that they sort as the numbers do, are counted by their upper halves, and
    then, among those whose upper half is that of the number wanted, by their lower ones.

    Args:
        array: (I, J, K) float32, no NaN.
        mask: (I, J, K) bool, not empty.
        wanted: From 0 to 100.
    """
    if array.size <= _BLOCK:
        return np.percentile(array[mask], wanted).tolist()
    upper = _counts(array, mask).cumsum()
    places = (upper[-1] - 1) * (np.asarray(wanted, float) / 100)
    ranks = np.minimum(np.add.outer(np.floor(places).astype(int), [0, 1]), upper[-1] - 1)
    halves = np.searchsorted(upper, ranks, side="right")
    numbers = np.empty(ranks.shape, np.float32)
    for half in np.unique(halves):
        before = upper[half - 1] if half else 0
        here = halves == half
        lower = np.searchsorted(_counts(array, mask, half).cumsum(), ranks[here] - before, side="right")
        numbers[here] = _number((half * _HALF + lower).astype(np.uint32))
    shares = places - np.floor(places)
    return [float(np.quantile(pair, [share])[0]) for pair, share in zip(numbers, shares, strict=True)]


def _counts(array: np.ndarray, mask: np.ndarray, upper: int | None = None) -> np.ndarray:
    """How many patterns have each upper half, or, of those with this `upper` half, each lower one."""
    total = np.zeros(_HALF, np.int64)
    num_planes = max(1, _BLOCK // array[0].size)
    for first in range(0, len(array), num_planes):
        patterns = _pattern(array[first : first + num_planes][mask[first : first + num_planes]])
        halves = patterns >> 16
        total += np.bincount(halves if upper is None else patterns[halves == upper] & (_HALF - 1), minlength=_HALF)
    return total


def _pattern(values: np.ndarray) -> np.ndarray:
    """Unsigned numbers in the order of the float32 `values`: negative ones have all their bits turned."""
    bits = values.view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _number(patterns: np.ndarray) -> np.ndarray:
    """What `_pattern` was made of."""
    return np.where(patterns >> 31, patterns & np.uint32((1 << 31) - 1), ~patterns).view(np.float32)
