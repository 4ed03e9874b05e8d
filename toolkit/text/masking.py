"""Dynamic whole-word masking that is right for SentencePiece."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from toolkit.config import Section
from toolkit.text.tokenizer import MASK, SPECIAL_TOKENS, WORD_START, TextTokenizer

FIRST_REGULAR = len(SPECIAL_TOKENS)
"""Ids below are special tokens: never masked, never drawn as a replacement."""

_NO_SPACES = (
    (0x0E00, 0x0EFF),
    (0x0F00, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Thai to Lao, Tibetan to Burmese, Khmer, and what Chinese and Japanese are written in: words have no
spaces between."""


class MaskingConfig(Section):
    """How much is masked, and by what."""

    share: float = Field(0.15, gt=0, lt=1)
    """Share of each text's tokens to predict."""
    mask_share: float = Field(0.8, ge=0, le=1)
    """Of these, share replaced by the mask token."""
    random_share: float = Field(0.1, ge=0, le=1)
    """Of these, share replaced by a random piece of the vocabulary; the rest stays as it is."""


@dataclass(frozen=True, eq=False)
class WordBoundaries:
    """Which pieces open a word, and after which pieces a new one opens whatever follows.

    A word is what stands between spaces. In scripts without spaces each piece is a word, as is punctuation;
    a character that is spelt in bytes is one too.
    """

    opens: np.ndarray
    closes: np.ndarray

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> "WordBoundaries":
        """Reads them off the vocabulary."""
        pieces = [tokenizer.pieces.id_to_piece(index) for index in range(len(tokenizer))]
        is_byte = [tokenizer.pieces.is_byte(index) for index in range(len(tokenizer))]
        spaced = [piece.startswith(WORD_START) for piece in pieces]
        alone = [
            not byte and _stands_alone(piece.lstrip(WORD_START)) for piece, byte in zip(pieces, is_byte, strict=True)
        ]
        # Lead bytes of characters of three or four bytes: among them all scripts without spaces.
        lead = [byte and int(piece[3:5], 16) >= 0xE0 for piece, byte in zip(pieces, is_byte, strict=True)]
        return cls(opens=np.array(spaced) | alone | lead, closes=np.array(alone))

    def words(self, ids_BT: np.ndarray, maskable_BT: np.ndarray) -> np.ndarray:
        """Numbers the words of a batch.

        Args:
            ids_BT: Token ids.
            maskable_BT: False for special tokens and padding.

        Returns:
            (B, T) word number, counted through the batch; -1 where not maskable.
        """
        opens = self.opens[ids_BT]
        opens[:, 1:] |= self.closes[ids_BT[:, :-1]] | ~maskable_BT[:, :-1]
        opens[:, 0] = True
        numbers = np.cumsum((opens & maskable_BT).ravel()).reshape(ids_BT.shape) - 1
        return np.where(maskable_BT, numbers, -1)


def mask_tokens(
    ids_BT: np.ndarray,
    boundaries: WordBoundaries,
    config: MaskingConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses whole words until the share is reached, and corrupts them.

    Words are taken in random order while at least half of the next one fits into the text's share, so the
    share holds on average; a text with any word has at least one masked.

    Args:
        ids_BT: Token ids with start, end and padding.
        boundaries: Of the tokenizer's vocabulary.
        config: Shares.
        rng: Source of all randomness.

    Returns:
        Corrupted ids (B, T), flat positions (M,) of the chosen tokens in the batch, and their true ids (M,).
    """
    maskable_BT = ids_BT >= FIRST_REGULAR
    word_BT = boundaries.words(ids_BT, maskable_BT)
    num_words = int(word_BT.max(initial=-1)) + 1
    if num_words == 0:
        none = np.empty(0, dtype=np.int64)
        return ids_BT.copy(), none, none
    flat_word = word_BT.ravel()[maskable_BT.ravel()]
    length = np.bincount(flat_word, minlength=num_words)
    text = np.empty(num_words, dtype=np.int64)
    text[flat_word] = np.nonzero(maskable_BT)[0]  # the row that each word stands in

    order = np.lexsort((rng.random(num_words), text))
    through = np.cumsum(length[order])
    row = text[order]
    first_of_row = np.r_[True, row[1:] != row[:-1]]
    before = through - length[order]
    before -= np.maximum.accumulate(np.where(first_of_row, before, 0))  # tokens taken earlier in the same row
    quota = config.share * np.bincount(text, weights=length, minlength=len(ids_BT))[row]
    taken = first_of_row | (before + length[order] / 2 <= quota)
    chosen_word = np.zeros(num_words, dtype=bool)
    chosen_word[order[taken]] = True

    chosen_BT = maskable_BT & chosen_word[word_BT]
    positions_M = np.flatnonzero(chosen_BT)
    targets_M = ids_BT.ravel()[positions_M].astype(np.int64)
    fate_M = rng.random(len(positions_M))
    random_M = rng.integers(FIRST_REGULAR, len(boundaries.opens), len(positions_M))
    corrupted = ids_BT.ravel().copy()
    by_mask = fate_M < config.mask_share
    by_random = ~by_mask & (fate_M < config.mask_share + config.random_share)
    corrupted[positions_M[by_mask]] = MASK
    corrupted[positions_M[by_random]] = random_M[by_random]
    return corrupted.reshape(ids_BT.shape), positions_M, targets_M


def _stands_alone(piece: str) -> bool:
    if not piece:
        return False
    first = piece[0]
    if not (first.isalnum() or first == "'" or 0x300 <= ord(first) <= 0x36F):
        return True
    return any(low <= ord(first) <= high for low, high in _NO_SPACES)
