"""Which texts make up which step, and where each lies in its batch: functions of (seed, step)."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from toolkit.balance import BalanceConfig, Quotas
from toolkit.text.packing import pack

BUCKET_BATCHES = 50
"""Batches that are sorted by length together: enough that padding is small, few enough that batches stay mixed."""
PACKED_BATCHES = 32
"""Batches whose texts are packed together: enough that rows are full, few enough that a round is found quickly."""


T = TypeVar("T")


class Texts(Protocol):
    """What a sampler must know of a corpus, such as a `TokenStore`."""

    lengths: np.ndarray
    """(N,) tokens of each text, without start and end."""
    languages: np.ndarray
    """(N,) code of each text's language."""
    language_names: tuple[str, ...]
    """Names of the codes."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Layout:
    """The texts of a batch and where they lie.

    Attributes:
        texts: (D,) which texts, in the order of their rows.
        rows: (D,) the row of each.
        starts: (D,) where in its row each begins.
        shape: Rows of the batch, and tokens a row.
    """

    texts: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    shape: tuple[int, int]

    def of_rows(self, rows: slice) -> "Layout":
        """A part of it, its rows counted from 0."""
        first, last = np.searchsorted(self.rows, [rows.start, rows.stop])
        part = slice(first, last)
        return Layout(
            self.texts[part], self.rows[part] - rows.start, self.starts[part], (rows.stop - rows.start, self.shape[1])
        )


class _Rounds:
    """The texts of each round: every language goes through its own in random order, again and again.

    None is left out and none is drawn early twice. How many a language gives to a round is a matter of the balance,
    which needs to know all rounds before; what it gives then follows from the round's number and the seed.
    """

    def __init__(self, source: Texts, seed: int, balance: BalanceConfig) -> None:
        self.seed = seed
        codes = np.flatnonzero(np.bincount(source.languages))
        sizes = np.bincount(source.languages)
        self._names = {int(code): source.language_names[code] for code in codes}
        self._rows = {int(code): _as_small(np.flatnonzero(source.languages == code)) for code in codes}
        self._quotas = Quotas({name: int(sizes[code]) for code, name in self._names.items()}, balance)
        self._ends = [dict.fromkeys(self._names, 0)]  # where each language stands after each round
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, size: int, progress: float) -> None:
        """One more round, of `size` texts, when the share `progress` of the training is over."""
        quotas, last = self._quotas.next(size, min(progress, 1.0)), self._ends[-1]
        self._ends.append({code: last[code] + quotas[name] for code, name in self._names.items()})

    def draw(self, number: int) -> np.ndarray:
        """The texts of a round, in random order."""
        before, after = self._ends[number : number + 2]
        drawn = np.concatenate([self._stretch(code, before[code], after[code]) for code in self._names])
        np.random.default_rng([self.seed, 0, number]).shuffle(drawn)
        return drawn

    def _stretch(self, code: int, first: int, last: int) -> np.ndarray:
        """Places `first` to `last` of a language's shuffled texts, passes joined end to end."""
        size, places = len(self._rows[code]), np.arange(first, last)
        drawn = np.empty(len(places), dtype=np.int64)
        for number in range(first // size, -(-last // size)):
            here = places // size == number
            drawn[here] = self._order(code, number)[places[here] % size]
        return drawn

    def _order(self, code: int, number: int) -> np.ndarray:
        """One pass over a language; the last is kept, as the next round mostly asks for the same."""
        if self._orders.get(code, (-1,))[0] != number:
            rng = np.random.default_rng([self.seed, 1, code, number])
            self._orders[code] = number, rng.permutation(self._rows[code])
        return self._orders[code][1]


class TextSampler:
    """A text a row, rows of like length together.

    A *round* is a pass over the corpus, or an even part of one of at most 50 batches. It is sorted by length, and its
    batches are shuffled.

    Args:
        source: The texts.
        batch_size: Texts a step; all of them where there are fewer.
        seed: Of all draws.
        balance: How often each language is drawn.
        num_steps: Of the training, where the balance changes over it.
    """

    def __init__(
        self, source: Texts, batch_size: int, seed: int, balance: BalanceConfig, num_steps: int | None = None
    ) -> None:
        self.source, self.seed, self.num_steps = source, seed, num_steps
        self.batch_size = min(batch_size, len(source))
        rounds_a_pass = -(-len(source) // (BUCKET_BATCHES * self.batch_size))
        self.batches_a_round = len(source) // (rounds_a_pass * self.batch_size)
        self._rounds = _Rounds(source, seed, balance)
        self._drawn: dict[int, np.ndarray] = {}

    @property
    def samples_per_epoch(self) -> int:
        """Rows of one pass over the corpus."""
        return len(self.source)

    def rows(self, step: int) -> np.ndarray:
        """(B,) texts of the source that step `step` sees."""
        number, index = divmod(step, self.batches_a_round)
        while len(self._rounds) <= number:
            done = len(self._rounds) * self.batches_a_round
            self._rounds.add(self.batches_a_round * self.batch_size, done / self.num_steps if self.num_steps else 0.0)
        if number not in self._drawn:
            self._drawn = _last_and(self._drawn, number, self._draw(number))
        return self._drawn[number][index]

    def layout(self, step: int) -> Layout:
        """The same, each in a row of its own that is as long as the longest."""
        texts = self.rows(step)
        width = int(self.source.lengths[texts].max()) + 2
        return Layout(texts, np.arange(len(texts)), np.zeros(len(texts), np.int64), (len(texts), width))

    def _draw(self, number: int) -> np.ndarray:
        drawn = self._rounds.draw(number)
        drawn = drawn[np.argsort(self.source.lengths[drawn], kind="stable")]
        batches = drawn.reshape(self.batches_a_round, self.batch_size)
        return batches[np.random.default_rng([self.seed, 4, number]).permutation(len(batches))]


class PackedSampler:
    """Several texts a row, packed so that hardly anything is padding.

    A *round* is a pass over the corpus, or an even part of one of at most about 32 batches. Its texts are packed into
    as few rows as best-fit finds, and its rows are shuffled; a step takes the next rows, across the ends of rounds.
    How many rows a round has is known when it is packed, so a step far on asks for all rounds before it: some
    milliseconds each, where training on them took seconds.

    Args:
        source: The texts; none with start and end is longer than `max_length`.
        batch_size: Rows a step.
        max_length: Tokens a row.
        seed: Of all draws.
        balance: How often each language is drawn.
        num_steps: Of the training, where the balance changes over it.
    """

    def __init__(
        self,
        source: Texts,
        batch_size: int,
        max_length: int,
        seed: int,
        balance: BalanceConfig,
        num_steps: int | None = None,
    ) -> None:
        self.source, self.batch_size, self.max_length = source, batch_size, max_length
        self.seed, self.num_steps = seed, num_steps
        self.samples_per_epoch = -(-int(source.lengths.sum(dtype=np.int64) + 2 * len(source)) // max_length)
        rounds_a_pass = -(-self.samples_per_epoch // (PACKED_BATCHES * batch_size))
        self.round_size = -(-len(source) // rounds_a_pass)
        self._rounds = _Rounds(source, seed, balance)
        self._ends = [0]  # rows of all rounds up to each
        self._packed: dict[int, Layout] = {}

    def layout(self, step: int) -> Layout:
        """The texts of step `step` and where they lie."""
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        while self._ends[-1] < last:
            self._add()
        parts, done = [], 0
        for number in range(np.searchsorted(self._ends, first, side="right") - 1, len(self._ends) - 1):
            begin = self._ends[number]
            rows = slice(max(first - begin, 0), min(last, self._ends[number + 1]) - begin)
            part = self._round(number).of_rows(rows)
            parts.append((part.texts, part.rows + done, part.starts))
            done += part.shape[0]
            if done == self.batch_size:
                break
        texts, rows, starts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Layout(texts, rows, starts, (self.batch_size, self.max_length))

    def _add(self) -> None:
        number, done = len(self._rounds), self._ends[-1]
        progress = done / (self.num_steps * self.batch_size) if self.num_steps else 0.0
        self._rounds.add(self.round_size, progress)
        self._ends.append(done + self._round(number).shape[0])

    def _round(self, number: int) -> Layout:
        if number not in self._packed:
            texts = self._rounds.draw(number)
            rows, starts = pack(self.source.lengths[texts] + 2, self.max_length)
            num_rows = int(rows.max()) + 1
            rows = np.random.default_rng([self.seed, 4, number]).permutation(num_rows)[rows]
            order = np.lexsort((starts, rows))
            layout = Layout(texts[order], rows[order], starts[order], (num_rows, self.max_length))
            self._packed = _last_and(self._packed, number, layout)
        return self._packed[number]


def _last_and(kept: dict[int, T], number: int, new: T) -> dict[int, T]:
    """Two rounds are kept: steps of the last and of this one may be asked for in turn."""
    return dict([*kept.items()][-1:]) | {number: new}


def _as_small(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.int32) if rows[-1] < 2**31 else rows
