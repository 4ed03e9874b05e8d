"""Dynamic masking of words, spans or single tokens that is right for SentencePiece."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from toolkit.config import Section
from toolkit.text.scripts import is_spaceless
from toolkit.text.tokenizer import WORD_START, TextTokenizer


class MaskingConfig(Section):
    """How much is masked, in which units, and by what."""

    unit: Literal["word", "span", "token"] = "word"
    """What is masked as a whole: words; spans of several words (SpanBERT: Joshi et al. 2020, arXiv:1907.10529), each
    with one fate; or single tokens, as BERT's first release did."""
    share: float = Field(0.15, gt=0, lt=1)
    """Share of each text's tokens to predict."""
    end_share: float | None = Field(None, gt=0, lt=1)
    """The share at the end of the stage, reached in a straight line: 0.3 to 0.15 learns faster than either alone
    (Ankner et al. 2024, arXiv:2305.15096). The same throughout if not given."""
    span_end: float = Field(0.2, gt=0, le=1)
    """Chance that a span ends after each of its words: lengths are geometric up to `max_span`, 3.8 words on average."""
    max_span: int = Field(10, ge=1)
    """Words of the longest span."""
    mask_share: float = Field(0.8, ge=0, le=1)
    """Of the tokens to predict, share replaced by the mask token."""
    random_share: float = Field(0.1, ge=0, le=1)
    """Of these, share replaced by a random piece of the vocabulary; the rest stays as it is."""

    @model_validator(mode="after")
    def _fates_fit(self) -> "MaskingConfig":
        if self.mask_share + self.random_share > 1:
            raise ValueError("mask_share and random_share come to more than 1; what is left of 1 stays as it is")
        return self

    def share_at(self, progress: float) -> float:
        """The share to predict when `progress` of the stage, in [0, 1], is done."""
        return self.share if self.end_share is None else self.share + (self.end_share - self.share) * progress


@dataclass(frozen=True, eq=False)
class WordBoundaries:
    """Which pieces open a word, after which a new one opens whatever follows, and which may be masked.

    A word is what stands between spaces. In scripts without spaces each piece is a word, as is punctuation;
    a character that is spelt in bytes is one too.

    Attributes:
        opens: (V,) the piece begins a word.
        closes: (V,) what follows the piece begins one.
        maskable: (V,) the piece may be predicted, and drawn to stand for another.
        mask_id: What hides a token.
    """

    opens: np.ndarray
    closes: np.ndarray
    maskable: np.ndarray
    mask_id: int

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> "WordBoundaries":
        """Reads them off the vocabulary."""
        pieces = [tokenizer.piece(index) for index in range(len(tokenizer))]
        is_byte = tokenizer.is_byte
        alone = np.array([_stands_alone(piece.lstrip(WORD_START)) for piece in pieces]) & ~is_byte
        # Lead bytes of characters of three or four bytes: among them all scripts without spaces.
        lead = [
            bool(byte) and int(piece.lstrip(WORD_START)[3:5], 16) >= 0xE0
            for piece, byte in zip(pieces, is_byte, strict=True)
        ]
        return cls(tokenizer.word_starts | alone | lead, alone, tokenizer.maskable, tokenizer.special.mask)

    @cached_property
    def regular(self) -> np.ndarray:
        """Ids that may be predicted and drawn."""
        return np.flatnonzero(self.maskable)

    def words(self, ids_N: np.ndarray, anew_N: np.ndarray) -> np.ndarray:
        """Numbers the words of maskable tokens in a row.

        Args:
            ids_N: Token ids.
            anew_N: True where a token does not continue the one before: the first one, a text's first, or behind a
                special token.

        Returns:
            (N,) word of each token, counted from 0.
        """
        opens = self.opens[ids_N] | anew_N
        opens[1:] |= self.closes[ids_N[:-1]]
        return np.cumsum(opens) - 1


def mask_tokens(
    ids: np.ndarray,
    boundaries: WordBoundaries,
    config: MaskingConfig,
    rng: np.random.Generator,
    *,
    texts: np.ndarray | None = None,
    share: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses whole units until the share of each text is reached, and corrupts them.

    Units are taken in random order while at least half of the next one fits into the text's share, so the
    share holds on average, but for short texts: one with any word has at least one unit masked, whatever its
    share. Spans are a text cut up at random, none longer than the text's share.

    Args:
        ids: Token ids of any shape, special tokens and padding among them.
        boundaries: Of the tokenizer's vocabulary.
        config: Units and shares.
        rng: Source of all randomness. What is drawn depends on the order of the texts and not on what lies between.
        texts: Which text each token belongs to, a number, in the shape of `ids`; a text's tokens follow each other.
            Rows are texts if not given.
        share: Of each text's tokens; that of `config` if not given.

    Returns:
        Corrupted ids in the shape of `ids`, flat positions (M,) of the chosen tokens, and their true ids (M,).
    """
    flat = ids.ravel()
    where_N = np.flatnonzero(boundaries.maskable[flat])
    if len(where_N) == 0:
        return ids.copy(), where_N, where_N
    label_N = where_N // ids.shape[-1] if texts is None else texts.ravel()[where_N]
    first_of_text_N = np.r_[True, label_N[1:] != label_N[:-1]]
    text_N = np.cumsum(first_of_text_N) - 1
    share = config.share if share is None else share

    if config.unit == "token":
        unit_N = np.arange(len(where_N))
    else:
        unit_N = boundaries.words(flat[where_N], first_of_text_N | (np.diff(where_N, prepend=-2) > 1))
        if config.unit == "span":
            unit_N = _spans(unit_N, text_N, config, share, rng)[unit_N]
    chosen_N = _chosen(unit_N, text_N, share, rng)[unit_N]

    positions_M = where_N[chosen_N]
    targets_M = flat[positions_M].astype(np.int64)
    if config.unit == "span":
        fate_M = rng.random(unit_N[-1] + 1)[unit_N[chosen_N]]
    else:
        fate_M = rng.random(len(positions_M))
    random_M = boundaries.regular[rng.integers(len(boundaries.regular), size=len(positions_M))]
    corrupted = flat.copy()
    by_mask = fate_M < config.mask_share
    by_random = ~by_mask & (fate_M < config.mask_share + config.random_share)
    corrupted[positions_M[by_mask]] = boundaries.mask_id
    corrupted[positions_M[by_random]] = random_M[by_random]
    return corrupted.reshape(ids.shape), positions_M, targets_M


def masked_shares(
    batches: Iterable[Mapping[str, Any]], maskable: np.ndarray, languages: Sequence[str]
) -> dict[str, float]:
    """The share of tokens to predict that batches came to, by language.

    Args:
        batches: With `clean_ids` (B, T), `positions` (M,) and `languages`, a code a text; packed ones have `documents`
            (B, T) too, numbered through the batch, and a code a document.
        maskable: (V,) which tokens count.
        languages: Names, by code.

    Returns:
        By name, of languages that occurred.
    """
    tokens, masked = np.zeros(len(languages), int), np.zeros(len(languages), int)
    for batch in batches:
        ids_BT, codes = np.asarray(batch["clean_ids"]), np.asarray(batch["languages"])
        text_BT = np.broadcast_to(np.arange(len(ids_BT))[:, None], ids_BT.shape)
        if "documents" in batch:
            text_BT = np.maximum(np.asarray(batch["documents"]), 0)
        language = codes[text_BT].ravel()
        tokens += np.bincount(language[maskable[ids_BT].ravel()], minlength=len(languages))
        masked += np.bincount(language[np.asarray(batch["positions"])], minlength=len(languages))
    return {name: m / n for name, n, m in zip(languages, tokens.tolist(), masked.tolist(), strict=True) if n}


def _spans(
    word_N: np.ndarray, text_N: np.ndarray, config: MaskingConfig, share: float, rng: np.random.Generator
) -> np.ndarray:
    """(W,) span of each word: lengths are drawn one after another, and cut at the ends of texts and at their share."""
    first_N = np.r_[True, word_N[1:] != word_N[:-1]]
    text_W = text_N[first_N]
    begins_W = np.r_[True, text_W[1:] != text_W[:-1]]
    chances = (1 - config.span_end) ** np.arange(config.max_span)
    lengths = 1 + np.searchsorted(np.cumsum(chances) / chances.sum(), rng.random(len(text_W)), side="right")
    starts = np.cumsum(np.minimum(lengths, config.max_span))
    begins_W[starts[starts < len(text_W)]] = True
    place_W = np.arange(len(text_W)) - np.maximum.accumulate(np.where(begins_W, np.arange(len(text_W)), 0))
    begins_W |= place_W % np.maximum(1, np.round(share * np.bincount(text_W)))[text_W] == 0
    return np.cumsum(begins_W) - 1


def _chosen(unit_N: np.ndarray, text_N: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(U,) whether each unit is chosen."""
    length_U = np.bincount(unit_N)
    text_U = text_N[np.r_[True, unit_N[1:] != unit_N[:-1]]]
    order = np.lexsort((rng.random(len(length_U)), text_U))
    length, text = length_U[order], text_U[order]
    first_of_text = np.r_[True, text[1:] != text[:-1]]
    before = np.cumsum(length) - length
    before -= np.maximum.accumulate(np.where(first_of_text, before, 0))  # tokens taken earlier in the same text
    quota = share * np.bincount(text_N)[text]
    chosen_U = np.zeros(len(length_U), dtype=bool)
    chosen_U[order[first_of_text | (before + length / 2 <= quota)]] = True
    return chosen_U


def _stands_alone(piece: str) -> bool:
    if not piece:
        return False
    first = piece[0]
    if not (first.isalnum() or first == "'" or 0x300 <= ord(first) <= 0x36F):
        return True
    return is_spaceless(first)
