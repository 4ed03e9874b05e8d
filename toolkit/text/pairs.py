"""Two texts in a row: translations of each other, or segments of which it is asked whether they belong together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from toolkit.balance import BalanceConfig
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.text.corpus import Corpus
from toolkit.text.masking import MaskingConfig, WordBoundaries, mask_tokens
from toolkit.text.sampler import TextSampler
from toolkit.text.scripts import is_spaceless
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TextTokenizer
from toolkit.training.shard import shard_rows

Pairing = Literal["translation", "next_segment", "segment_order"]
"""What makes two texts a pair; with segments, half of the pairs are wrong: the second is from another text, or they are
exchanged."""

SENTENCE_ENDS = ".!?…。｡؟۔।॥։።។"
"""Characters behind which a sentence may end, in many scripts."""
PORTION = 10_000
"""Pairs that are tokenised at a time."""


class PairSource(Protocol):
    """Pairs by number; the rest is what a sampler asks for."""

    lengths: np.ndarray
    languages: np.ndarray
    language_names: tuple[str, ...]
    groups: np.ndarray
    """Pairs that may not tell each other apart share a number."""

    def __len__(self) -> int: ...

    def pair(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokens of both texts, and 1 if they do not belong together."""
        ...


@dataclass(frozen=True, eq=False)
class TranslationPairs:
    """Texts and their translations as token ids.

    Attributes:
        tokens: All ids in a row, the two texts of a pair one after the other.
        offsets: Where each text begins, (2 N + 1,).
        languages: Code of each pair's two languages, (N,).
        language_names: Names of the codes, such as "de-en".
        groups: A number for each pair, (N,), the same where the first texts are: translations into several languages.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    languages: np.ndarray
    language_names: tuple[str, ...]
    groups: np.ndarray

    @classmethod
    def build(
        cls, pairs: Iterable[tuple[str, str, str]], tokenizer: TextTokenizer, max_length: int
    ) -> "TranslationPairs":
        """Tokenises pairs; a text that takes more than half of a row is cut, a pair with an empty one is left out.

        Args:
            pairs: A text, its translation, and the name of their languages.
            tokenizer: Of both.
            max_length: Tokens a row, all starts and ends included.

        Raises:
            DataError: Nothing is left.
        """
        room = (max_length - 4) // 2
        chunks: list[np.ndarray] = []
        names: list[str] = []
        groups: list[int] = []
        numbers: dict[str, int] = {}
        num_cut = num_empty = 0
        stream = iter(pairs)
        while portion := list(islice(stream, PORTION)):
            sides = (tokenizer.encode_arrays([pair[side] for pair in portion]) for side in range(2))
            for one, other, (first, _, name) in zip(*sides, portion, strict=True):
                if len(one) == 0 or len(other) == 0:
                    num_empty += 1
                    continue
                num_cut += max(len(one), len(other)) > room
                chunks += [one[:room], other[:room]]
                names.append(name)
                groups.append(numbers.setdefault(first, len(numbers)))
        if not names:
            raise DataError(f"no pairs of translations: {num_empty} were read, none with words on both sides")
        if num_cut or num_empty:
            log.info("pairs: %d kept, %d of them cut to %d tokens, %d empty", len(names), num_cut, room, num_empty)
        known, codes = np.unique(names, return_inverse=True)
        offsets = np.r_[0, np.cumsum([len(chunk) for chunk in chunks])]
        return cls(np.concatenate(chunks), offsets, codes, tuple(known.tolist()), np.array(groups))

    def __len__(self) -> int:
        return len(self.languages)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of both texts together."""
        return self.offsets[2::2] - self.offsets[:-2:2]

    def pair(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokens of both texts; they always belong together."""
        first, second, end = self.offsets[2 * row : 2 * row + 3]
        return self.tokens[first:second], self.tokens[second:end], 0


class SegmentPairs:
    """Texts cut in two at the end of a sentence, or without one between words.

    Args:
        store: The texts; those of a single token are left out.
        tokenizer: Theirs.
        pairing: Whether wrong pairs have a second segment from another text, of the same language, or both exchanged.
        max_length: Tokens a row, start and both ends included.

    Raises:
        DataError: No text has two tokens.
    """

    def __init__(self, store: TokenStore, tokenizer: TextTokenizer, pairing: Pairing, max_length: int) -> None:
        assert pairing != "translation"
        self.store, self.pairing = store, pairing
        self.room = max_length - 3
        self.rows = self.groups = np.flatnonzero(store.lengths >= 2)
        if len(self.rows) == 0:
            raise DataError("no text has two tokens, to be cut into segments")
        self.lengths, self.languages = store.lengths[self.rows] + 1, store.languages[self.rows]
        self.language_names = store.language_names
        self._places = {code: np.flatnonzero(self.languages == code) for code in np.unique(self.languages)}
        pieces = [tokenizer.piece(index) for index in range(len(tokenizer))]
        self._ends = np.array([piece[-1:] in SENTENCE_ENDS and piece != "" for piece in pieces])
        spaceless = np.array([piece != "" and is_spaceless(piece[0]) for piece in pieces])
        self._begins = tokenizer.word_starts | spaceless
        self._opens = WordBoundaries.of(tokenizer).opens

    def __len__(self) -> int:
        return len(self.rows)

    def pair(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokens of both segments, and 1 if the pair is wrong."""
        first, second = self._cut(row, rng)
        wrong = rng.random() < 0.5
        same = self._places[self.languages[row]]
        if wrong and self.pairing == "segment_order":
            first, second = second, first
        elif wrong and len(same) > 1:
            other = same[rng.integers(len(same) - 1)]
            second = self._cut(same[-1] if other == row else other, rng)[1]
        else:
            wrong = False
        num_first = min(len(first), max(self.room - len(second), (self.room + 1) // 2))  # the longer one gives way
        return first[:num_first], second[: self.room - num_first], int(wrong)

    def _cut(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ids = self.store.ids(self.rows[row]).astype(np.int64)
        places = np.flatnonzero(self._ends[ids[:-1]] & self._begins[ids[1:]])
        if len(places) == 0:
            places = np.flatnonzero(self._opens[ids[1:]])
        place = 1 + (rng.integers(len(ids) - 1) if len(places) == 0 else places[rng.integers(len(places))])
        return ids[:place], ids[place:]


class _Drawn(NamedTuple):
    clean_BT: np.ndarray
    segments_BT: np.ndarray
    positions_BT: np.ndarray
    corrupted_BT: np.ndarray
    masked_M: np.ndarray
    targets_M: np.ndarray
    coins_BT: np.ndarray
    labels_B: np.ndarray
    languages_B: np.ndarray
    groups_B: np.ndarray


class PairBatches:
    """Batches of pairs for masked modelling, each a pure function of (seed, step).

    `batch(step)` has what `MaskedBatches` gives, with a pair in each row, masked on both sides; `segments` (B, T), 0
    and 1 for the texts with their starts and ends, -1 for padding; `labels` (B,), 1 where a pair is wrong; `groups`
    (B,), numbers within the step, equal where pairs have the same first text. Of translations each text has a start
    and an end, and `position_ids` (B, T) begin at 0 in each.

    Args:
        source: The pairs.
        tokenizer: Theirs.
        masking: Shares.
        pairing: What they are.
        batch_size: Pairs a step; all of them where there are fewer.
        seed: Of all draws.
        balance: How often each language is drawn.
        num_steps: Of the training, where balance or masking change over it.
    """

    def __init__(
        self,
        source: PairSource,
        tokenizer: TextTokenizer,
        masking: MaskingConfig,
        *,
        pairing: Pairing,
        batch_size: int,
        seed: int,
        balance: BalanceConfig = BalanceConfig(),  # noqa: B008, it cannot be changed
        num_steps: int | None = None,
    ) -> None:
        self.source, self.masking, self.pairing = source, masking, pairing
        self.seed, self.num_steps = seed, num_steps
        self.special = tokenizer.special
        self.boundaries = WordBoundaries.of(tokenizer)
        self.sampler = TextSampler(source, batch_size, seed, balance, num_steps)
        self._last: tuple[int, _Drawn] | None = None

    @property
    def language_names(self) -> tuple[str, ...]:
        """Names of the codes in `languages`."""
        return self.source.language_names

    @property
    def batch_size(self) -> int:
        """Pairs a step."""
        return self.sampler.batch_size

    @property
    def samples_per_epoch(self) -> int:
        """Pairs of one pass over the corpus."""
        return self.sampler.samples_per_epoch

    def num_tokens(self, step: int) -> int:
        """Tokens of step `step` with starts and ends, padding not counted."""
        return int((self._whole(step).segments_BT >= 0).sum())

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Pairs of the source that a part of a step sees."""
        return self.sampler.rows(step)[shard_rows(self.batch_size, shard, num_shards)].tolist()

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Any]:
        """A part of the batch of step `step`, as long as its own longest pair; see `MaskedBatches.batch`.

        Raises:
            ConfigError: The parts would not be equal.
        """
        rows = shard_rows(self.batch_size, shard, num_shards)
        whole = self._whole(step)
        in_text_BT = whole.segments_BT >= 0
        length = int(in_text_BT[rows].sum(axis=1).max())
        row_M, column_M = np.divmod(whole.masked_M, in_text_BT.shape[1])
        here_M = (row_M >= rows.start) & (row_M < rows.stop)

        def part(values_BT: np.ndarray) -> torch.Tensor:  # the whole is kept: what is handed out may be written to
            return torch.from_numpy(values_BT[rows, :length].copy())

        batch = {
            "input_ids": part(whole.corrupted_BT),
            "attention_mask": part(in_text_BT).long(),
            "positions": torch.from_numpy((row_M[here_M] - rows.start) * length + column_M[here_M]),
            "targets": torch.from_numpy(whole.targets_M[here_M]),
            "clean_ids": part(whole.clean_BT),
            "coins": part(whole.coins_BT),
            "segments": part(whole.segments_BT),
            "labels": torch.from_numpy(whole.labels_B[rows].copy()),
            "languages": torch.from_numpy(whole.languages_B[rows].astype(np.int64)),
            "groups": torch.from_numpy(whole.groups_B[rows].copy()),
            "totals": torch.tensor([self.batch_size, int(in_text_BT.sum()), len(whole.targets_M)]),
        }
        if self.pairing == "translation":
            batch["position_ids"] = part(whole.positions_BT)
        return batch

    def _whole(self, step: int) -> _Drawn:
        if self._last is None or self._last[0] != step:  # a step's parts are asked for one after another
            self._last = step, self._draw_whole(step)
        return self._last[1]

    def _draw_whole(self, step: int) -> _Drawn:
        rows = self.sampler.rows(step)
        rng = np.random.default_rng([self.seed, 5, step])
        drawn = [self.source.pair(int(row), rng) for row in rows]
        sides = [[self._framed(ids, side) for side, ids in enumerate(pair[:2])] for pair in drawn]
        shape = len(rows), max(len(one) + len(other) for one, other in sides)
        clean_BT = np.full(shape, self.special.pad, dtype=np.int64)
        segments_BT, positions_BT = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, pair in enumerate(sides):
            begin = 0
            for side, ids in enumerate(pair):
                here = slice(begin, begin + len(ids))
                clean_BT[row, here], segments_BT[row, here] = ids, side
                positions_BT[row, here] = np.arange(len(ids))
                begin = here.stop
        share = self.masking.share_at(step / self.num_steps if self.num_steps else 0.0)
        texts_BT = 2 * np.arange(len(rows))[:, None] + segments_BT
        rng = np.random.default_rng([self.seed, 2, step])
        masked = mask_tokens(clean_BT, self.boundaries, self.masking, rng, texts=texts_BT, share=share)
        coins_BT = np.random.default_rng([self.seed, 3, step]).random(shape, dtype=np.float32)
        labels_B = np.array([label for _, _, label in drawn])
        languages_B = self.source.languages[rows]
        groups_B = np.unique(self.source.groups[rows], return_inverse=True)[1]
        return _Drawn(clean_BT, segments_BT, positions_BT, *masked, coins_BT, labels_B, languages_B, groups_B)

    def _framed(self, ids: np.ndarray, side: int) -> np.ndarray:
        start = [self.special.bos] if side == 0 or self.pairing == "translation" else []
        return np.concatenate([start, ids, [self.special.eos]]).astype(np.int64)


def translations(corpus: Corpus, pivot: str | None = None) -> Iterator[tuple[str, str, str]]:
    """One text of each group beside its translations into the other languages, as `TranslationPairs.build` takes them.

    The pivot stands first where a group has it, else the language that most texts are in. Of several texts in one
    language the first counts; groups in one language alone are left out, and counted in the log.

    Args:
        corpus: Texts that translate each other share a group.
        pivot: The language that stands first; the one with most texts if not given.

    Raises:
        DataError: No group has two languages, or there is none of this name.
    """
    if pivot:
        corpus.of_language(pivot)
    frame = corpus.frame.drop_duplicates(["group", "language"])
    num_groups = frame["group"].nunique()
    frame = frame[frame.duplicated("group", keep=False)]
    if frame.empty:
        names = ", ".join(sorted(set(corpus.languages.astype(str))))
        raise DataError(
            f"no translations: all texts are in {names}, none in two of them; add a source of parallel texts"
        )
    num_alone = num_groups - frame["group"].nunique()
    if num_alone:
        log.info("translations: %s of %s groups are in one language alone", f"{num_alone:,}", f"{num_groups:,}")
    sizes = frame["language"].value_counts().to_dict()
    ranked = sorted(sizes, key=lambda language: (language != pivot, -sizes[language], language))
    frame = frame.assign(rank=frame["language"].map({language: rank for rank, language in enumerate(ranked)}))
    leads = frame["rank"] == frame.groupby("group")["rank"].transform("min")
    pairs = frame[leads].reset_index(names="place").merge(frame[~leads], on="group", suffixes=("", "_other"))
    pairs = pairs.sort_values(["rank", "language_other", "place"])
    for one, translation, first, other in pairs[["text", "text_other", "language", "language_other"]].itertuples(
        index=False, name=None
    ):
        yield one, translation, f"{first}-{other}"
