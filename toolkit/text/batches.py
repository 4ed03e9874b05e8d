"""Batches of masked texts, each a pure function of (seed, step), in rows of like length or packed."""

from typing import Any, NamedTuple

import numpy as np
import torch

from toolkit.balance import BalanceConfig
from toolkit.text.masking import MaskingConfig, WordBoundaries, mask_tokens
from toolkit.text.sampler import Layout, PackedSampler, TextSampler
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TextTokenizer
from toolkit.training.shard import shard_rows


class _Drawn(NamedTuple):
    """A step: where its texts lie, and all of their tokens end to end, before they are laid out."""

    layout: Layout
    sizes_D: np.ndarray
    clean_N: np.ndarray
    corrupted_N: np.ndarray
    positions_M: np.ndarray
    targets_M: np.ndarray
    coins_N: np.ndarray


class MaskedBatches:
    """Batches for objectives that learn from texts, with masks for those that want them.

    `batch(step)` has, for B rows of T tokens with D texts in them (B = D where each has a row of its own):

    - `input_ids` (B, T), some tokens masked; `clean_ids` (B, T), before masking; `attention_mask` (B, T);
    - `positions` (M,) of the masked tokens, flat in the batch, and `targets` (M,), their true ids;
    - `coins` (B, T), one uniform draw in [0, 1) for each token;
    - `languages` (D,), the code of each text's language; `language_names` has their names;
    - `totals` (3,), texts, tokens and masked tokens of the whole step, of which this may be a part.

    Packed, also `documents` (B, T), the number of each token's text in the batch, -1 for padding; `position_ids`
    (B, T), which begin at 0 in each text; and `boundaries`, where texts and stretches of padding begin, flat, and the
    batch's end.

    Texts are masked before they are laid out: packed or not, the same texts get the same masks.

    Args:
        store: The texts.
        tokenizer: Theirs.
        masking: Shares.
        batch_size: Rows a step; no more than there are texts where each has its own row.
        seed: Of all draws.
        balance: How often each language is drawn.
        packed: Whether rows hold several texts, `store.max_length` tokens in all.
        num_steps: Of the training, where balance or masking change over it.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer: TextTokenizer,
        masking: MaskingConfig,
        *,
        batch_size: int,
        seed: int,
        balance: BalanceConfig = BalanceConfig(),  # noqa: B008, it cannot be changed
        packed: bool = False,
        num_steps: int | None = None,
    ) -> None:
        self.store, self.packed, self.masking = store, packed, masking
        self.seed, self.num_steps = seed, num_steps
        self.special = tokenizer.special
        self.boundaries = WordBoundaries.of(tokenizer)
        self.sampler: TextSampler | PackedSampler
        if packed:
            assert store.max_length is not None
            self.sampler = PackedSampler(store, batch_size, store.max_length, seed, balance, num_steps)
        else:
            self.sampler = TextSampler(store, batch_size, seed, balance, num_steps)
        self._last: tuple[int, _Drawn] | None = None

    @property
    def language_names(self) -> tuple[str, ...]:
        """Names of the codes in `languages`."""
        return self.store.language_names

    @property
    def batch_size(self) -> int:
        """Rows a step."""
        return self.sampler.batch_size

    @property
    def samples_per_epoch(self) -> int:
        """Rows of one pass over the corpus."""
        return self.sampler.samples_per_epoch

    def num_tokens(self, step: int) -> int:
        """Tokens of step `step` with start and end, padding not counted."""
        texts = self.sampler.layout(step).texts
        return int(self.store.lengths[texts].sum()) + 2 * len(texts)

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Texts of the store that a part of a step sees."""
        rows = shard_rows(self.batch_size, shard, num_shards)
        return self.sampler.layout(step).of_rows(rows).texts.tolist()

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Any]:
        """A part of the batch of step `step`; its rows are as long as its own longest text, or `max_length` if packed.

        Everything random is drawn for the whole batch, so it does not depend on the number of parts.

        Args:
            step: Which batch of `batch_size` rows.
            shard: Which of its parts.
            num_shards: In how many equal, consecutive parts it is cut.

        Raises:
            ConfigError: The parts would not be equal.
        """
        rows = shard_rows(self.batch_size, shard, num_shards)
        if self._last is None or self._last[0] != step:  # a step's parts are asked for one after another
            self._last = step, self._draw_whole(step)
        drawn = self._last[1]
        layout = drawn.layout.of_rows(rows)
        first, last = np.searchsorted(drawn.layout.rows, [rows.start, rows.stop])
        sizes_D = drawn.sizes_D[first:last]
        begin = int(drawn.sizes_D[:first].sum())
        tokens = slice(begin, begin + int(sizes_D.sum()))
        shape = layout.shape if self.packed else (layout.shape[0], int(sizes_D.max()))
        document_N, within_N = _places(sizes_D)
        place_N = (layout.rows * shape[1] + layout.starts)[document_N] + within_N

        def laid_out(values_N: np.ndarray, padding: int) -> torch.Tensor:
            laid_BT = np.full(shape, padding, dtype=values_N.dtype)
            laid_BT.ravel()[place_N] = values_N
            return torch.from_numpy(laid_BT)

        here_M = slice(*np.searchsorted(drawn.positions_M, [tokens.start, tokens.stop]))
        batch = {
            "input_ids": laid_out(drawn.corrupted_N[tokens], self.special.pad),
            "attention_mask": laid_out(np.ones(len(place_N), np.int64), 0),
            "positions": torch.from_numpy(place_N[drawn.positions_M[here_M] - begin]),
            "targets": torch.from_numpy(drawn.targets_M[here_M].copy()),  # what is handed out may be written to
            "clean_ids": laid_out(drawn.clean_N[tokens], self.special.pad),
            "coins": laid_out(drawn.coins_N[tokens], 0),
            "languages": torch.from_numpy(self.store.languages[layout.texts].astype(np.int64)),
            "totals": torch.tensor([len(drawn.sizes_D), len(drawn.clean_N), len(drawn.targets_M)]),
        }
        if self.packed:
            ends = layout.rows * shape[1] + layout.starts + sizes_D
            edges = np.unique(np.concatenate([ends - sizes_D, ends, [shape[0] * shape[1]]]))
            batch |= {
                "documents": laid_out(document_N, -1),
                "position_ids": laid_out(within_N, 0),
                "boundaries": torch.from_numpy(edges.astype(np.int32)),
            }
        return batch

    def _draw_whole(self, step: int) -> _Drawn:
        layout = self.sampler.layout(step)
        sizes_D = self.store.lengths[layout.texts].astype(np.int64) + 2
        document_N, within_N = _places(sizes_D)
        inner_N = (within_N > 0) & (within_N < sizes_D[document_N] - 1)
        clean_N = np.where(within_N == 0, self.special.bos, self.special.eos)
        source_N = self.store.offsets[layout.texts][document_N[inner_N]] + within_N[inner_N] - 1
        clean_N[inner_N] = self.store.tokens[source_N]
        share = self.masking.share_at(step / self.num_steps if self.num_steps else 0.0)
        masked = mask_tokens(
            clean_N,
            self.boundaries,
            self.masking,
            np.random.default_rng([self.seed, 2, step]),
            texts=document_N,
            share=share,
        )
        coins_N = np.random.default_rng([self.seed, 3, step]).random(len(clean_N), dtype=np.float32)
        return _Drawn(layout, sizes_D, clean_N, *masked, coins_N)


def _places(sizes_D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For texts end to end: which text each token belongs to, and its place there, both (N,)."""
    document_N = np.repeat(np.arange(len(sizes_D)), sizes_D)
    return document_N, np.arange(len(document_N)) - (np.cumsum(sizes_D) - sizes_D)[document_N]
