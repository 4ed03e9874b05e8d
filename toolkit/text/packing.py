"""Texts into rows of one length, with as little left over as best-fit finds."""

import numba
import numpy as np

BLOCK = 64


def pack(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit decreasing: the longest text first, each into the fullest row that has room for it.

    Ding et al. (2024, arXiv:2404.10830) use it so that no text is cut merely to fill a row. With thousands of texts,
    many of them short, hardly a token is left over.

    Args:
        lengths: (N,) of texts, each at least 1 and at most `room`.
        room: Tokens a row.

    Returns:
        The row of each text, numbered from 0 without gaps, and where in it the text begins, both (N,).
    """
    lengths = np.ascontiguousarray(lengths, dtype=np.int64)
    assert lengths.size and lengths.min() > 0 and lengths.max() <= room
    order = np.argsort(-lengths, kind="stable")
    rows, starts = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    rows[order], starts[order] = _best_fit(lengths[order], room)
    return rows, starts


@numba.njit(nogil=True, cache=True)
def _best_fit(lengths, room):  # type: ignore[no-untyped-def]
    """Of lengths that fall. Rows with equal space left form a chain; a block counts the spaces of 64 sizes that have
    any, so that looking for the smallest one that will do passes empty stretches quickly."""
    num = len(lengths)
    rows, starts = np.empty(num, np.int64), np.empty(num, np.int64)
    following = np.full(num, -1, np.int64)
    first = np.full(room + 1, -1, np.int64)  # by space left, the row that came to it last
    filled = np.zeros(room // BLOCK + 1, np.int64)
    num_rows = 0
    for text in range(num):
        length = lengths[text]
        space = length
        while space <= room and first[space] < 0:
            if space % BLOCK == 0 and filled[space // BLOCK] == 0:
                space += BLOCK
            else:
                space += 1
        if space <= room:
            row = first[space]
            first[space] = following[row]
            filled[space // BLOCK] -= first[space] < 0
        else:
            row, space = num_rows, room
            num_rows += 1
        rows[text], starts[text] = row, room - space
        left = space - length
        following[row] = first[left]
        filled[left // BLOCK] += first[left] < 0
        first[left] = row
    return rows, starts
