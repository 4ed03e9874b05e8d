"""Texts that say the same: exact repeats after normalisation, and near ones by MinHash (Broder, 1997)."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH

SHINGLE = 5
"""Characters a shingle has: long enough that unrelated short texts share few."""
NUM_PERMUTATIONS = 64

_NOT_WORD = re.compile(r"[\W_]+")


def canonical(text: str) -> str:
    """What is left of a text when case, width, punctuation and spacing do not matter."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def clusters(texts: Sequence[str], *, threshold: float = 0.8) -> np.ndarray:
    """Groups near-duplicates; linked texts share a cluster even if they are linked only through others.

    Candidates come from MinHash with locality-sensitive hashing, and each is checked by its exact Jaccard
    index, so that chance collisions join nothing. About 8 s for 40,000 sentences on one core.

    Args:
        texts: N texts.
        threshold: Share of common shingles of 5 characters, of all that either has, from which two texts are
            near; 1 joins exact repeats only.

    Returns:
        (N,) index of the first text of each one's cluster.
    """
    first_with: dict[str, int] = {}
    parent = np.array([first_with.setdefault(canonical(text), index) for index, text in enumerate(texts)], dtype=int)
    if threshold >= 1 or len(first_with) < 2:
        return parent
    shingles = {index: _shingles(text) for text, index in first_with.items()}
    lsh = MinHashLSH(threshold=max(0.1, threshold - 0.1), num_perm=NUM_PERMUTATIONS)
    sketches = MinHash.generator(shingles.values(), num_perm=NUM_PERMUTATIONS, seed=1)
    for index, sketch in zip(shingles, sketches, strict=True):
        for other in sorted(lsh.query(sketch)):
            if _jaccard(shingles[index], shingles[other]) >= threshold:
                parent[_root(parent, index)] = _root(parent, other)
        lsh.insert(index, sketch)
    roots = np.array([_root(parent, index) for index in range(len(texts))], dtype=int)
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    return first[inverse]


def near_any(texts: Sequence[str], others: Sequence[str], *, threshold: float = 0.8) -> np.ndarray:
    """Which of `texts` are near-duplicates of any of `others`: a boolean array (len(texts),).

    Use it to keep held-out texts out of additional corpora.
    """
    both = clusters([*others, *texts], threshold=threshold)
    return np.isin(both[len(others) :], both[: len(others)])


def _shingles(text: str) -> set[bytes]:
    return {text[start : start + SHINGLE].encode() for start in range(max(1, len(text) - SHINGLE + 1))}


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _root(parent: np.ndarray, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]  # halve the path, so that later look-ups are short
        index = int(parent[index])
    return index
