import numpy as np
import pytest

from toolkit.text.packing import pack


def by_hand(lengths: list[int], room: int) -> list[int]:
    """Best-fit decreasing, looking at every row for every text."""
    rows, left = [0] * len(lengths), []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        fitting = [row for row, space in enumerate(left) if space >= lengths[text]]
        if not fitting:
            fitting = [len(left)]
            left.append(room)
        row = min(fitting, key=lambda row: left[row])
        left[row] -= lengths[text]
        rows[text] = row
    return rows


@pytest.mark.parametrize("room", [20, 64, 130, 1000])
def test_rows_are_those_of_best_fit(room: int) -> None:
    """Which of several rows with equal space takes a text is open; so the spaces that are left are compared."""
    rng = np.random.default_rng(room)
    for num_texts in (1, 2, 17, 400):
        lengths = rng.geometric(8 / room, num_texts).clip(1, room)
        rows, starts = pack(lengths, room)
        assert {*rows.tolist()} == set(range(rows.max() + 1))
        expected = by_hand(lengths.tolist(), room)
        assert sorted(np.bincount(rows, weights=lengths)) == sorted(np.bincount(expected, weights=lengths))
        for row in range(rows.max() + 1):
            inside = np.flatnonzero(rows == row)
            inside = inside[np.argsort(starts[inside])]
            # Texts of a row lie end to end from its beginning.
            assert starts[inside].tolist() == [0, *np.cumsum(lengths[inside])[:-1].tolist()]
            assert lengths[inside].sum() <= room


def test_hardly_anything_is_left_over_of_many_short_texts() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, 20_000).clip(1, 126) + 2
    rows, _ = pack(lengths, 128)
    assert lengths.sum() / (128 * (rows.max() + 1)) > 0.995


def test_texts_that_fill_a_row_each() -> None:
    rows, starts = pack(np.full(5, 64), 64)
    assert sorted(rows) == [0, 1, 2, 3, 4] and not starts.any()
