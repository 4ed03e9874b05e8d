"""A sample of a corpus of any size, in bounded memory: an even share of characters for each language."""

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from toolkit.text.splitting import split_line

_DRAWN_AT_ONCE = 1024


@dataclass
class Reservoir:
    """What is kept of one language: the lines with the smallest random numbers."""

    numbers: Iterator[float]
    threshold: float = np.inf
    size: int = 0
    lines: list[tuple[float, int, str]] = field(default_factory=list)  # a heap, the largest number first

    def offer(self, line: str, place: int) -> None:
        """Keeps the line, unless one with a smaller number had to go already."""
        number = next(self.numbers)
        if number < self.threshold:
            heapq.heappush(self.lines, (-number, place, line))
            self.size += len(line)

    def drop(self) -> int:
        """Lets go of a line, and says how many characters it had."""
        number, _, line = heapq.heappop(self.lines)
        self.threshold = -number
        self.size -= len(line)
        return len(line)


@dataclass
class Sample:
    """Lines to learn from, in the order in which they were read.

    Attributes:
        lines: Of all languages.
        counts: By language: `texts` read, `empty` ones, `split` ones because they were long, `lines` they made,
            `kept` lines.
    """

    lines: list[str]
    counts: dict[str, dict[str, int]]


def sample_lines(texts: Iterable[tuple[str, str]], max_characters: int, seed: int) -> Sample:
    """Reads all of `texts` once and keeps lines at random, up to `max_characters` of them all.

    Where there is more, each language gets the same share, and what a small one leaves goes to the others. But for a
    line at the edge, which lines a language keeps does not depend on how it is mixed with others.

    Args:
        texts: Text and language.
        max_characters: What is kept at most; what is being read comes on top, a line at a time.
        seed: Of the random numbers.
    """
    kept: dict[str, Reservoir] = {}
    counts: dict[str, Counter[str]] = {}
    size = place = 0
    for text, language in texts:
        if language not in kept:
            kept[language] = Reservoir(_numbers(seed, language))
            counts[language] = Counter(texts=0, empty=0, split=0, lines=0, kept=0)
        count, own = counts[language], kept[language]
        count["texts"] += 1
        if not text.strip():
            count["empty"] += 1
            continue
        for number, line in enumerate(split_line(text)):
            count["lines"] += 1
            count["split"] += number == 1
            place += 1
            size -= own.size
            own.offer(line, place)
            size += own.size
        while size > max_characters:
            size -= max(kept.values(), key=lambda reservoir: reservoir.size).drop()
    for language, own in kept.items():
        counts[language]["kept"] = len(own.lines)
    lines = sorted((place, line) for own in kept.values() for _, place, line in own.lines)
    return Sample([line for _, line in lines], {language: dict(counts[language]) for language in sorted(counts)})


def _numbers(seed: int, language: str) -> Iterator[float]:
    rng = np.random.default_rng([seed, zlib.crc32(language.encode())])
    while True:
        yield from rng.random(_DRAWN_AT_ONCE)
