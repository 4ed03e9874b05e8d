"""A fast tokenizer from elsewhere: any that `AutoTokenizer` opens, with the ids that it has."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from toolkit.errors import CheckpointError
from toolkit.text.tokenizer.base import WORD_START, SpecialIds, TextTokenizer
from toolkit.text.tokenizer.certificate import write_certificate
from toolkit.text.tokenizer.fast import save_fast

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_RESERVED = re.compile(r"[\[<]?(?:unused|reserved)[ _-]?\w*\d+[\]>]?", re.IGNORECASE)


class ForeignTokenizer(TextTokenizer):
    """A tokenizer that fewlabel did not train.

    Args:
        fast: Its fast form; puts one special token before and one after a text, and has ones for padding,
            what is unknown and what is masked.
        certificate: What it loses, as far as it was seen.
        origin: Where it comes from, for errors.

    Raises:
        CheckpointError: It lacks one of these.
    """

    def __init__(
        self, fast: PreTrainedTokenizerFast, certificate: dict[str, Any] | None = None, *, origin: object = "tokenizer"
    ) -> None:
        if not getattr(fast, "is_fast", False):
            raise CheckpointError(f"{origin}: has no fast tokenizer; save it with a tokenizer.json first")
        fast.split_special_tokens = True  # a literal "<s>" in a user's text is text
        self.fast = fast
        self.certificate = certificate
        self.special = _special(fast, origin)
        self._state = json.loads(fast.backend_tokenizer.to_str())

    def __len__(self) -> int:
        return len(self._spelt)

    def normalize_all(self, texts: Iterable[str]) -> list[str]:
        """What the tokenizer sees of each text."""
        normalizer = self.fast.backend_tokenizer.normalizer
        return list(texts) if normalizer is None else [normalizer.normalize_str(text) for text in texts]

    def encode_arrays(self, texts: Sequence[str], num_threads: int | None = None) -> list[np.ndarray]:
        """Ids of each text, int32, without start and end; the fast tokenizer chooses its threads."""
        if not texts:
            return []
        batch = self.fast(list(texts), add_special_tokens=False, return_attention_mask=False)
        return [np.array(ids, dtype=np.int32) for ids in batch["input_ids"]]

    def piece(self, index: int) -> str:
        """How the piece is spelt, as SentencePiece would spell it."""
        return self._spelt[index]

    @cached_property
    def special_ids(self) -> np.ndarray:
        """Sorted ids of all special tokens."""
        return np.unique([*self.special, *self.fast.all_special_ids])

    @cached_property
    def is_byte(self) -> np.ndarray:
        """(V,) whether the piece is bytes that are no character by themselves."""
        return np.array([_BYTE_PIECE.match(piece) is not None for piece in self._spelt])

    @cached_property
    def is_unused(self) -> np.ndarray:
        """(V,) whether the id stands for nothing, or is kept for later."""
        return np.array([not piece or bool(_RESERVED.fullmatch(piece.lstrip(WORD_START))) for piece in self._spelt])

    def save(self, folder: Path) -> None:
        """Writes what `AutoTokenizer.from_pretrained(folder)` and `load_tokenizer(folder)` open."""
        folder.mkdir(parents=True, exist_ok=True)
        save_fast(self.fast, folder)
        if self.certificate:
            write_certificate(folder, self.certificate)

    @cached_property
    def _spelt(self) -> list[str]:
        vocabulary = self.fast.get_vocab()
        spell = _spelling(self._state)
        added = {token.content for token in self.fast.added_tokens_decoder.values()}
        spelt = [""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            spelt[index] = token if token in added else spell(token)
        return spelt


def _special(fast: PreTrainedTokenizerFast, origin: object) -> SpecialIds:
    ids = {name: getattr(fast, f"{name}_token_id") for name in ("pad", "unk", "mask")}
    around = fast("")["input_ids"]
    if len(around) != 2:
        raise CheckpointError(
            f"{origin}: its tokenizer puts {len(around)} special tokens around a text; fewlabel needs one before and "
            "one after it, as encoders such as BERT and XLM-R have"
        )
    ids["unk"] = ids["mask"] if ids["unk"] is None else ids["unk"]  # one that spells everything in bytes needs none
    for name in ("pad", "mask"):
        if ids[name] is None:
            raise CheckpointError(f"{origin}: its tokenizer has no {name} token; choose a masked language model's")
    return SpecialIds(pad=ids["pad"], unk=ids["unk"], bos=around[0], eos=around[1], mask=ids["mask"])


def _spelling(state: dict[str, Any]) -> Callable[[str], str]:
    """How to spell a token of this kind of vocabulary as SentencePiece would."""
    kind = state["model"]["type"]
    steps = _types(state["pre_tokenizer"]) | _types(state["decoder"])
    if "ByteLevel" in steps:
        return _from_byte_level
    if kind == "WordPiece":
        prefix = state["model"]["continuing_subword_prefix"]
        return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else WORD_START + token
    if kind == "WordLevel":
        return lambda token: WORD_START + token
    return lambda token: token


def _types(step: dict[str, Any] | None) -> set[str]:
    if not step:
        return set()
    inner = step.get("pretokenizers") or step.get("decoders") or ()
    return {step["type"]}.union(*map(_types, inner))


def _from_byte_level(token: str) -> str:
    """GPT-2's alphabet, in which each byte is one printable character, back into bytes and these into text."""
    values = [_BYTE_OF.get(character) for character in token]
    if None in values:
        return token
    raw = bytes(values)  # type: ignore[arg-type]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{value:02X}>" for value in raw)
    return WORD_START + text[1:] if text.startswith(" ") else text


def _byte_alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + place): value for place, value in enumerate(others)}


_BYTE_OF = _byte_alphabet()
