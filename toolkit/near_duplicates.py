"""Texts that say the same: exact repeats after normalisation, and near ones by MinHash (Broder, 1997)."""

import hashlib
import re
import tempfile
import unicodedata
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from toolkit.console import track

SHINGLE = 5
"""Characters a shingle has: long enough that unrelated short texts share few."""
NUM_PERMUTATIONS = 64

HELD_OUT_THRESHOLD = 0.8
"""Jaccard index from which a text is taken for a held-out one."""
ROWS_AT_ONCE = 1024
UNKNOWN = "und"
"""The kind of a text of which no kind is known."""
MOST_LEADERS = 16
"""Texts of a bucket that each further one is compared with, at most: buckets of boilerplate hold thousands."""

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


class Repeat(IntEnum):
    """Why a text is left out; the values are what `RepeatFinder.reasons` gives."""

    NONE = 0
    """It is kept."""
    EXACT = 1
    """An earlier text is the same after normalisation."""
    NEAR = 2
    """It is a near-duplicate of an earlier one."""
    HELD_OUT = 3
    """It repeats a held-out text, exactly or nearly."""


class RepeatFinder:
    """Finds repeats among more texts than fit the memory: give it one after another, then ask for all.

    Texts of two kinds (languages) do not repeat each other, but for one of an `UNKNOWN` kind, which is left out where
    any other is exactly the same. Exact repeats cost 10 bytes a text. Near ones are looked for by buckets of MinHash,
    and checked by their exact Jaccard index on the texts, which lie in files without a name until then (about the size
    of the corpus); about 100 bytes a text stay in memory. What repeats a held-out text is found at any threshold and
    under any kind, exactly or nearly (`HELD_OUT_THRESHOLD`).

    Args:
        threshold: See `clusters`; 1 finds exact repeats only.
        scratch: A folder for the files; the system's for temporary ones by default.
    """

    def __init__(self, *, threshold: float = 1.0, scratch: Path | None = None) -> None:
        self.threshold = threshold
        self._digests, self._kinds = array("Q"), array("H")
        self._kind_codes: dict[str, int] = {}
        self._repeats_held_out = bytearray()
        self._held_out: list[set[bytes]] = []
        self._held_out_index = _index(HELD_OUT_THRESHOLD)
        self._waiting: list[tuple[str, str]] = []
        self._offsets = array("Q", [0])
        if threshold < 1:
            lsh = _index(threshold)
            self._starts = np.array([start for start, _ in lsh.hashranges])
            self._used = lsh.hashranges[-1][1]
            self._factors = np.random.default_rng(1).integers(1 << 63, size=self._used, dtype=np.uint64) | np.uint64(1)
            files = [tempfile.TemporaryFile(dir=scratch) for _ in range(1 + len(self._starts))]  # noqa: SIM115
            self._texts, *self._bands = files  # closed, and with it gone, when nobody holds them any more

    def hold_out(self, texts: Iterable[str]) -> None:
        """Texts that must not come back, of whatever kind; they come before all others, and stay in memory."""
        assert not self._digests, "held-out texts come before all others"
        shingled = [_shingles(canonical(text)) for text in texts]
        for shingles, sketch in zip(shingled, _sketches(shingled), strict=True):
            self._held_out_index.insert(len(self._held_out), sketch)
            self._held_out.append(shingles)

    def add(self, text: str, kind: str = "") -> None:
        """The next text."""
        normal = canonical(text)
        self._digests.append(_digest64(normal))
        self._kinds.append(self._kind_codes.setdefault(kind, len(self._kind_codes)))
        if self.threshold < 1:
            content = normal.encode("utf-8", "surrogatepass")
            self._offsets.append(self._offsets[-1] + len(content))
            self._texts.write(content)
        if self.threshold < 1 or self._held_out:
            self._waiting.append((kind, normal))
            if len(self._waiting) == ROWS_AT_ONCE:
                self._sketch()

    def reasons(self) -> np.ndarray:
        """(N,) uint8: a `Repeat` for each text that was added. Of several that repeat each other the first is kept."""
        self._sketch()
        digests, kinds = np.array(self._digests, dtype=np.uint64), np.array(self._kinds)
        of_kind = np.array([_digest64(kind) for kind in self._kind_codes], dtype=np.uint64)
        _, first, inverse = np.unique(digests ^ of_kind[kinds], return_index=True, return_inverse=True)
        parent = first[inverse]
        reasons = np.where(parent == np.arange(len(parent)), Repeat.NONE, Repeat.EXACT).astype(np.uint8)
        if UNKNOWN in self._kind_codes:
            unknown = kinds == self._kind_codes[UNKNOWN]
            reasons[unknown & np.isin(digests, digests[~unknown])] = Repeat.EXACT
        if self._held_out:
            reasons[np.frombuffer(bytes(self._repeats_held_out), dtype=bool)] = Repeat.HELD_OUT
        if self.threshold < 1:
            candidates = np.flatnonzero(reasons == Repeat.NONE)
            self._join_near(parent, candidates)
            roots = np.array([_root(parent, index) for index in candidates.tolist()], dtype=np.int64)
            _, first = np.unique(roots, return_index=True)
            reasons[np.delete(candidates, first)] = Repeat.NEAR
        return reasons

    def _sketch(self) -> None:
        """Compares the texts that wait with what is held out, and writes their buckets."""
        if not self._waiting:
            return
        shingled = [_shingles(normal) for _, normal in self._waiting]
        sketches = list(_sketches(shingled))
        if self._held_out:
            self._repeats_held_out += bytes(map(self._is_held_out, shingled, sketches))
        if self.threshold < 1:
            values = np.array([sketch.hashvalues[: self._used] for sketch in sketches], dtype=np.uint64)
            keys = np.add.reduceat(values * self._factors, self._starts, axis=1)
            # Texts of other kinds have other buckets.
            keys ^= np.array([_digest64(kind) for kind, _ in self._waiting], dtype=np.uint64)[:, None]
            for file, column in zip(self._bands, keys.T, strict=True):
                file.write(column.tobytes())
        self._waiting.clear()

    def _is_held_out(self, shingles: set[bytes], sketch: MinHash) -> bool:
        others = (self._held_out[number] for number in self._held_out_index.query(sketch))
        return any(_jaccard(shingles, other) >= HELD_OUT_THRESHOLD for other in others)

    def _join_near(self, parent: np.ndarray, candidates: np.ndarray) -> None:
        """Joins near-duplicates among `candidates`, ascending rows, in the forest `parent`."""
        for file in track(self._bands, "looking for near-duplicates"):
            file.seek(0)
            keys = np.fromfile(file, dtype=np.uint64)[candidates]
            order = np.argsort(keys, kind="stable")
            ends = np.flatnonzero(np.r_[keys[order][1:] != keys[order][:-1], True]) + 1
            sizes = np.diff(ends, prepend=0)
            for end, size in zip(ends[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
                self._join_bucket(parent, candidates[order[end - size : end]].tolist())

    def _join_bucket(self, parent: np.ndarray, rows: list[int]) -> None:
        leaders: list[tuple[int, set[bytes]]] = []
        for row in rows:
            root = _root(parent, row)
            if any(_root(parent, leader) == root for leader, _ in leaders):
                continue
            mine = self._stored_shingles(row)
            near = next((leader for leader, other in leaders if _jaccard(mine, other) >= self.threshold), None)
            if near is not None:
                parent[root] = _root(parent, near)
            elif len(leaders) < MOST_LEADERS:
                leaders.append((row, mine))

    def _stored_shingles(self, row: int) -> set[bytes]:
        self._texts.seek(self._offsets[row])
        content = self._texts.read(self._offsets[row + 1] - self._offsets[row])
        return _shingles(content.decode("utf-8", "surrogatepass"))


def _index(threshold: float) -> MinHashLSH:
    """Buckets that miss 1 % of the pairs just at a threshold of .8; those of `clusters` miss 23 % there, 1 % at .9."""
    return MinHashLSH(threshold=max(0.1, threshold - 0.25), num_perm=NUM_PERMUTATIONS)


def _sketches(shingled: Iterable[set[bytes]]) -> Iterator[MinHash]:
    """Of the fast kind: 32 bits, and a checksum in place of SHA-1. For buckets whose members are compared exactly."""
    yield from MinHash.generator(shingled, num_perm=NUM_PERMUTATIONS, seed=1, scheme="affine32", hashfunc=zlib.crc32)


def _digest64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _shingles(text: str) -> set[bytes]:
    parts = (text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1)))
    return {part.encode("utf-8", "surrogatepass") for part in parts}


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _root(parent: np.ndarray, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]  # halve the path, so that later look-ups are short
        index = int(parent[index])
    return index
