"""One array in one file: compressed chunks that any process reads through a shared mapping, each with its checksum."""

import functools
import os
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import blosc2
import numpy as np

from toolkit.config import Section
from toolkit.errors import DataError

# Measured on 256^3 scans of 12 bits: 1.4 ms for a crop of 96^3 and .16 ms for one of 36^3. Blocks of 32^3 take a half
# more for the small crop, chunks of 128^3 too; chunks of 32^3 are read as fast and take three times as long to write.
CHUNK, BLOCK = 64, 16
_COMPRESSION = blosc2.CParams(
    codec=blosc2.Codec.LZ4, clevel=5, filters=[blosc2.Filter.BITSHUFFLE], filters_meta=[0], nthreads=1
)
_HEAD_LENGTH_AT = slice(11, 15)  # where a Blosc2 frame says how long its head is
# An open file takes a descriptor, of which a process has 1,024 by default. Opening one again takes .2 ms.
MAX_OPEN = 256


class FrameRecord(Section):
    """What a file is checked against before Blosc2 sees it: damaged bytes could crash the library."""

    num_bytes: int
    """Of the whole file."""
    head: int
    """Bytes before the first chunk."""
    tail: int
    """Where the last chunk ends."""
    crc: int
    """CRC-32 of head, first chunk's head and tail, which are read when the file is opened."""
    chunks: tuple[tuple[int, int], ...]
    """Bytes and CRC-32 of each chunk, in the order of the file; a chunk of zeros takes none."""


def compress(array: np.ndarray) -> tuple[bytes, FrameRecord]:
    """The file for `array`, (C, I, J, K) int16: a Blosc2 frame (b2nd, LZ4 after a bit shuffle) and its record."""
    chunks, blocks = (1, CHUNK, CHUNK, CHUNK), (1, BLOCK, BLOCK, BLOCK)
    compressed = blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=_COMPRESSION)
    frame, schunk = compressed.to_cframe(), compressed.schunk
    head = tail = int.from_bytes(frame[_HEAD_LENGTH_AT], "big")
    records = []
    for number in range(schunk.nchunks):
        chunk = schunk.get_chunk(number)
        has_room = frame.startswith(chunk, tail)
        assert has_room or len(chunk) == blosc2.MAX_OVERHEAD, "the chunks are not in the order of their numbers"
        records.append((len(chunk), zlib.crc32(chunk)) if has_room else (0, 0))
        tail += records[-1][0]
    crc = zlib.crc32(frame[tail:], zlib.crc32(frame[: head + blosc2.MAX_OVERHEAD]))
    return frame, FrameRecord(num_bytes=len(frame), head=head, tail=tail, crc=crc, chunks=tuple(records))


class ChunkedArray:
    """An array on disk. Opened at the first read, and by each process on its own.

    Args:
        path: The file.
        shape: (C, I, J, K).
        record: From `compress`.
    """

    def __init__(self, path: Path, shape: Sequence[int], record: FrameRecord) -> None:
        self.path, self.record = path, record
        self.shape = tuple(shape)
        grid = self.shape[0], *(-(-side // CHUNK) for side in self.shape[1:])
        sizes = [num_bytes for num_bytes, _ in record.chunks]
        self._places = record.head + np.cumsum([0, *sizes])
        self._numbers = np.arange(len(sizes)).reshape(grid)
        self._checked = np.array(sizes).reshape(grid) == 0

    def read(self, low: Sequence[int], high: Sequence[int]) -> np.ndarray:
        """All channels of the voxels from `low` up to `high`, which lie inside: (C, i, j, k) int16.

        Only the blocks that are needed are decompressed. The first time that this object meets a chunk, it computes
        its checksum.

        Raises:
            DataError: The file or one of these chunks is damaged or missing; the message names it.
        """
        record = self.record
        frame = _open(self.path, record.num_bytes, record.head, record.tail, record.crc, os.getpid())
        spans = [slice(a // CHUNK, (b - 1) // CHUNK + 1) for a, b in zip(low, high, strict=True)]
        if not self._checked[:, *spans].all():
            self._check(spans)
        i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
        values: np.ndarray = frame[:, i, j, k]
        return values

    def _check(self, spans: Sequence[slice]) -> None:
        with self.path.open("rb") as file:
            for place in product(range(self.shape[0]), *(range(span.start, span.stop) for span in spans)):
                if self._checked[place]:
                    continue
                number = int(self._numbers[place])
                num_bytes, crc = self.record.chunks[number]
                file.seek(self._places[number])
                if zlib.crc32(file.read(num_bytes)) != crc:
                    _open.cache_clear()  # a file that is put in its place will be looked at anew
                    raise DataError(f"{self.path}: chunk {place} is damaged; delete the file and build the store again")
                self._checked[place] = True


@functools.lru_cache(MAX_OPEN)
def _open(path: Path, num_bytes: int, head: int, tail: int, crc: int, process: int) -> blosc2.NDArray:
    """The file, mapped for reading. Processes share its pages; a forked one (`process`) opens it again for itself."""
    try:
        with path.open("rb") as file:
            found = zlib.crc32(file.read(head + blosc2.MAX_OVERHEAD))
            file.seek(tail)
            found = zlib.crc32(file.read(), found)
            whole = found == crc and file.tell() == num_bytes
    except FileNotFoundError:
        raise DataError(f"{path}: missing; build the store again") from None
    if not whole:
        raise DataError(f"{path}: truncated or damaged; delete the file and build the store again")
    return blosc2.open(str(path), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
