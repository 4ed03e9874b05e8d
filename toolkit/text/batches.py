"""Texts as tokens, drawn by language, batched by length; each batch a pure function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from toolkit.balance import sampling_shares
from toolkit.errors import DataError
from toolkit.text.masking import MaskingConfig, WordBoundaries, mask_tokens
from toolkit.text.tokenizer import BOS, EOS, PAD, TextTokenizer
from toolkit.training.shard import shard_rows

BUCKET_BATCHES = 50
"""Batches that are sorted by length together: enough that padding is small, few enough that batches stay
mixed."""


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A corpus as token ids, once and for all.

    Attributes:
        tokens: All ids in a row, int32, without start and end.
        offsets: Where each chunk begins, (N + 1,).
        languages: Language of each chunk, (N,).
    """

    tokens: np.ndarray
    offsets: np.ndarray
    languages: np.ndarray

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        languages: Sequence[str] | np.ndarray,
        tokenizer: TextTokenizer,
        max_length: int,
    ) -> "TokenStore":
        """Tokenises `texts`; those longer than `max_length` tokens, start and end included, are cut up.

        Raises:
            DataError: No text has a token.
        """
        room = max_length - 2
        chunks, of = [], []
        for ids, language in zip(tokenizer.encode(texts), languages, strict=True):
            for start in range(0, len(ids), room):
                chunks.append(ids[start : start + room])
                of.append(language)
        if not chunks:
            raise DataError("the corpus is empty: no text to pretrain on")
        lengths = np.array([len(chunk) for chunk in chunks])
        tokens = np.concatenate([np.asarray(chunk, dtype=np.int32) for chunk in chunks])
        return cls(tokens, np.r_[0, np.cumsum(lengths)], np.array(of, dtype=object))

    def __len__(self) -> int:
        return len(self.languages)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each chunk, without start and end."""
        return np.diff(self.offsets)

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Chunks with start, end and padding: (B, T) int64, T the longest of them."""
        lengths = self.lengths[rows]
        ids_BT = np.full((len(rows), int(lengths.max()) + 2), PAD, dtype=np.int64)
        ids_BT[:, 0] = BOS
        for row, chunk in enumerate(rows):
            ids_BT[row, 1 : lengths[row] + 1] = self.tokens[self.offsets[chunk] : self.offsets[chunk + 1]]
            ids_BT[row, lengths[row] + 1] = EOS
        return ids_BT


class TextSampler:
    """Which texts make up which step.

    The texts of a *round* are as many as the corpus has, shared out to the languages by temperature. Each
    language goes through its texts in random order, again and again, so none is left out and none is drawn
    early twice. A round is sorted by length in stretches of 50 batches, and its batches are shuffled.

    Args:
        store: The texts.
        batch_size: Texts a step; all of them where there are fewer.
        seed: Of all draws.
        temperature: See `sampling_shares`.
    """

    def __init__(self, store: TokenStore, batch_size: int, seed: int, temperature: float) -> None:
        self.store = store
        self.seed = seed
        self.batch_size = min(batch_size, len(store))
        self._rows = {
            language: np.flatnonzero(store.languages == language) for language in sorted(set(store.languages))
        }
        shares = sampling_shares({language: len(rows) for language, rows in self._rows.items()}, temperature)
        self.batches_a_round = max(1, len(store) // self.batch_size)
        total = self.batches_a_round * self.batch_size
        self._quota = _whole(shares, total)
        self._rounds: dict[int, np.ndarray] = {}

    def rows(self, step: int) -> np.ndarray:
        """(B,) chunks of the store that step `step` sees."""
        number, index = divmod(step, self.batches_a_round)
        if number not in self._rounds:  # two are kept: steps of the last and of this one may be asked for in turn
            self._rounds = dict([*self._rounds.items()][-1:]) | {number: self._draw_round(number)}
        return self._rounds[number][index]

    def _draw_round(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 0, number])
        drawn = np.concatenate([self._next(code, number) for code in range(len(self._rows))])
        rng.shuffle(drawn)
        lengths = self.store.lengths[drawn]
        stretch = BUCKET_BATCHES * self.batch_size
        for start in range(0, len(drawn), stretch):
            part = slice(start, start + stretch)
            drawn[part] = drawn[part][np.argsort(lengths[part], kind="stable")]
        batches = drawn.reshape(self.batches_a_round, self.batch_size)
        return batches[rng.permutation(len(batches))]

    def _next(self, code: int, round_number: int) -> np.ndarray:
        """What a language contributes to a round: a stretch of its shuffled texts, passes joined end to
        end."""
        language = list(self._rows)[code]
        rows, quota = self._rows[language], self._quota[language]
        places = np.arange(round_number * quota, (round_number + 1) * quota)
        drawn = np.empty(quota, dtype=np.int64)
        for number in np.unique(places // len(rows)):
            order = np.random.default_rng([self.seed, 1, code, int(number)]).permutation(rows)
            here = places // len(rows) == number
            drawn[here] = order[places[here] % len(rows)]
        return drawn


class MaskedBatches:
    """Batches for masked language modelling.

    `batch(step)` has `input_ids` and `attention_mask` (B, T), `positions` (M,) flat in the batch, `targets`
    (M,), `clean_ids` (B, T), the ids before masking, and `coins` (B, T), one uniform draw in [0, 1) for each token.

    Args:
        store: The texts.
        tokenizer: Theirs.
        masking: Shares.
        batch_size: Texts a step; all of them where there are fewer.
        seed: Of all draws.
        temperature: See `sampling_shares`.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer: TextTokenizer,
        masking: MaskingConfig,
        *,
        batch_size: int,
        seed: int,
        temperature: float,
    ) -> None:
        self.sampler = TextSampler(store, batch_size, seed, temperature)
        self.boundaries = WordBoundaries.of(tokenizer)
        self.masking = masking
        self.seed = seed
        self._last: tuple[int, tuple[np.ndarray, ...]] | None = None

    @property
    def batch_size(self) -> int:
        """Texts a step."""
        return self.sampler.batch_size

    @property
    def samples_per_epoch(self) -> int:
        """Texts of one round."""
        return self.sampler.batches_a_round * self.batch_size

    def num_tokens(self, step: int) -> int:
        """Tokens of step `step` with start and end, padding not counted."""
        return int(self.sampler.store.lengths[self.sampler.rows(step)].sum()) + 2 * self.batch_size

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Rows of the store that a part of a step sees."""
        return self.sampler.rows(step)[shard_rows(self.batch_size, shard, num_shards)].tolist()

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Any]:
        """A part of the batch of step `step`, as long as its own longest text.

        Everything random is drawn for the whole batch, so it does not depend on the number of parts.

        Args:
            step: Which batch of `batch_size` texts.
            shard: Which of its parts.
            num_shards: In how many equal, consecutive parts it is cut.

        Raises:
            ConfigError: The parts would not be equal.
        """
        rows = shard_rows(self.batch_size, shard, num_shards)
        if self._last is None or self._last[0] != step:  # a step's parts are asked for one after another
            self._last = step, self._draw_whole(step)
        whole_BT, corrupted_BT, positions_M, targets_M, coins_BT = self._last[1]
        length = int((whole_BT[rows] != PAD).sum(axis=1).max())
        row_M, column_M = np.divmod(positions_M, whole_BT.shape[1])
        here_M = (row_M >= rows.start) & (row_M < rows.stop)
        ids_BT = whole_BT[rows, :length].copy()  # the whole is kept: what is handed out may be written to
        return {
            "input_ids": torch.from_numpy(corrupted_BT[rows, :length].copy()),
            "attention_mask": torch.from_numpy((ids_BT != PAD).astype(np.int64)),
            "positions": torch.from_numpy((row_M[here_M] - rows.start) * length + column_M[here_M]),
            "targets": torch.from_numpy(targets_M[here_M]),
            "clean_ids": torch.from_numpy(ids_BT),
            "coins": torch.from_numpy(coins_BT[rows, :length].copy()),
        }

    def _draw_whole(self, step: int) -> tuple[np.ndarray, ...]:
        ids_BT = self.sampler.store.padded(self.sampler.rows(step))
        rng = np.random.default_rng([self.seed, 2, step])
        masked = mask_tokens(ids_BT, self.boundaries, self.masking, rng)
        coins_BT = np.random.default_rng([self.seed, 3, step]).random(ids_BT.shape, dtype=np.float32)
        return ids_BT, *masked, coins_BT


def _whole(shares: dict[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`, by largest remainder."""
    exact = np.array([share * total for share in shares.values()])
    whole = np.floor(exact).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return dict(zip(shares, whole.tolist(), strict=True))
