"""What every tokenizer here offers, whoever trained it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

WORD_START = "▁"
"""Stands in front of a piece that opens a word."""


class SpecialIds(NamedTuple):
    """Ids of the special tokens that models are trained with; a tokenizer may have more."""

    pad: int
    unk: int
    bos: int
    """Before each text: `<s>` or `[CLS]`."""
    eos: int
    """After each text: `</s>` or `[SEP]`."""
    mask: int


class TextTokenizer(ABC):
    """Texts to ids and back, and what masking must know of the pieces.

    Pieces are spelt as SentencePiece does it, whatever the vocabulary's own custom: `▁the` opens a word, `<0xE4>` is a
    byte.

    Attributes:
        fast: For users and for `AutoTokenizer`; carries the normaliser.
        special: Ids of the special tokens.
        certificate: What is known of it (`certificate.py`); none while it is being made.
    """

    fast: PreTrainedTokenizerFast
    special: SpecialIds
    certificate: dict[str, Any] | None

    @abstractmethod
    def __len__(self) -> int:
        """V: one more than the largest id."""

    @abstractmethod
    def normalize_all(self, texts: Iterable[str]) -> list[str]:
        """What the tokenizer sees of each text, and what decoding gives back where it is lossless."""

    @abstractmethod
    def encode_arrays(self, texts: Sequence[str], num_threads: int | None = None) -> list[np.ndarray]:
        """Ids of each text, int32, without start and end; the same for any number of threads.

        Args:
            texts: N texts.
            num_threads: As many as there are cores if not given.
        """

    @abstractmethod
    def piece(self, index: int) -> str:
        """How the piece is spelt, as SentencePiece spells it; empty where the id stands for nothing."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes what `AutoTokenizer.from_pretrained(folder)` and `load_tokenizer(folder)` open."""

    @property
    @abstractmethod
    def special_ids(self) -> np.ndarray:
        """Sorted ids of all special tokens: never masked, never drawn as a replacement."""

    @property
    @abstractmethod
    def is_byte(self) -> np.ndarray:
        """(V,) whether the piece is bytes of a character: `<0xE4>`, or several of them in a row."""

    @property
    @abstractmethod
    def is_unused(self) -> np.ndarray:
        """(V,) whether no text has the piece: ids that stand for nothing, and reserved ones."""

    @cached_property
    def digest(self) -> str:
        """Of everything that ids depend on: what was encoded by another tokenizer has another."""
        return hashlib.sha256(self.fast.backend_tokenizer.to_str().encode()).hexdigest()[:16]

    @cached_property
    def maskable(self) -> np.ndarray:
        """(V,) whether the piece may be predicted, and drawn in place of another."""
        maskable = ~self.is_unused
        maskable[self.special_ids] = False
        return maskable

    @cached_property
    def word_starts(self) -> np.ndarray:
        """(V,) whether the piece opens a word."""
        return np.array([self.piece(index).startswith(WORD_START) for index in range(len(self))])

    def normalize(self, text: str) -> str:
        """What the tokenizer sees of a text."""
        return self.normalize_all([text])[0]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without start and end."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def decode_all(self, ids: Sequence[np.ndarray], *, skip_special: bool = False) -> list[str]:
        """The text of each array of ids without start and end.

        Args:
            ids: Of N texts.
            skip_special: Leave special tokens out, what is unknown among them; otherwise their names stand there.
        """
        rows = [own.tolist() for own in ids]
        return self.fast.backend_tokenizer.decode_batch(rows, skip_special_tokens=skip_special)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids without start and end."""
        return self.decode_all([np.asarray(ids, dtype=np.int64)])[0]
