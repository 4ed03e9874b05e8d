"""A SentencePiece model and the fast tokenizer that gives the same ids."""

import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from transformers import PreTrainedTokenizerFast

from toolkit.cores import num_cores
from toolkit.text.tokenizer.base import SpecialIds, TextTokenizer
from toolkit.text.tokenizer.certificate import SPIECE, write_certificate
from toolkit.text.tokenizer.fast import EXACT_SUM, SPECIAL_TOKENS, is_bpe, save_fast
from toolkit.text.tokenizer.normalizing import Normalizer

_UNKNOWN_PENALTY = 10
"""How far below the lowest score SentencePiece puts an unknown character."""


class SentencePieceTokenizer(TextTokenizer):
    """Trained here, and certified: SentencePiece encodes, several times faster; the fast tokenizer goes to users.

    Args:
        fast: Carries the normaliser.
        spiece: Serialised SentencePiece model, of text that is normalised already.
        certificate: Proof that both agree; none while it is being made.
    """

    def __init__(self, fast: PreTrainedTokenizerFast, spiece: bytes, certificate: dict[str, Any] | None = None) -> None:
        self.fast = fast
        self.spiece = spiece
        self.certificate = certificate
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=spiece)
        self.special = SpecialIds(*(self.pieces.piece_to_id(token) for token in SPECIAL_TOKENS))
        self._normalizer = Normalizer(fast.backend_tokenizer.normalizer)
        # Up to this length SentencePiece's sums of scores, in single precision, are exact; BPE adds up nothing.
        lowest = min(self.pieces.get_score(index) for index in range(len(self)))
        self._exact_characters = sys.maxsize if is_bpe(spiece) else int(EXACT_SUM / (_UNKNOWN_PENALTY - lowest))

    def __len__(self) -> int:
        return self.pieces.get_piece_size()

    def normalize_all(self, texts: Iterable[str]) -> list[str]:
        """Each text as SentencePiece has to get it."""
        return [self._normalizer(text) for text in texts]

    def encode_arrays(self, texts: Sequence[str], num_threads: int | None = None) -> list[np.ndarray]:
        """Ids of each text by SentencePiece, int32, without start and end.

        A text too long for exact sums is encoded in stretches that end where a word does; a word that is too long
        itself, such as a book in Chinese on one line, by the fast tokenizer.
        """
        normal = self.normalize_all(texts)
        long = {row for row, text in enumerate(normal) if len(text) > self._exact_characters}
        short = ["" if row in long else text for row, text in enumerate(normal)] if long else normal
        ids = self.pieces.encode(short, out_type="numpy", num_threads=num_threads or num_cores())
        for row in long:
            ids[row] = np.concatenate([self._encode_stretch(part) for part in self._stretches(normal[row])])
        return ids

    def piece(self, index: int) -> str:
        """How the piece is spelt."""
        return self.pieces.id_to_piece(index)

    @property
    def special_ids(self) -> np.ndarray:
        """Sorted ids of all special tokens."""
        return np.sort(self.special)

    @cached_property
    def is_byte(self) -> np.ndarray:
        """(V,) whether the piece is a byte."""
        return np.array([self.pieces.is_byte(index) for index in range(len(self))])

    @cached_property
    def is_unused(self) -> np.ndarray:
        """(V,) whether the piece is out of use."""
        return np.array([self.pieces.is_unused(index) for index in range(len(self))])

    def save(self, folder: Path) -> None:
        """Writes what `AutoTokenizer.from_pretrained(folder)` and `load_tokenizer(folder)` open."""
        folder.mkdir(parents=True, exist_ok=True)
        save_fast(self.fast, folder)
        (folder / SPIECE).write_bytes(self.spiece)
        if self.certificate:
            write_certificate(folder, self.certificate)

    def _stretches(self, text: str) -> Iterable[str]:
        """The text's words, as many together as are exact; a stretch without a space may be longer."""
        start = 0
        while len(text) - start > self._exact_characters:
            cut = text.rfind(" ", start, start + self._exact_characters + 1)
            cut = cut if cut > start else text.find(" ", start)
            if cut < 0:
                break
            yield text[start:cut]
            start = cut + 1
        yield text[start:]

    def _encode_stretch(self, text: str) -> np.ndarray:
        if len(text) <= self._exact_characters:
            return self.pieces.encode(text, out_type="numpy")
        return np.array(self.fast(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
