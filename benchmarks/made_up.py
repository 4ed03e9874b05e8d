"""Made-up scans and texts of a realistic kind, and the models of both legs, so that a benchmark downloads nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.objectives import Objective, build_objective
from toolkit.objectives.mlm import MLMConfig
from toolkit.objectives.simclr import SimCLRConfig
from toolkit.scans import PatchBatches, Preprocessing, ViewConfig, Volume
from toolkit.scans.store import StoredVolume, VolumeStore
from toolkit.text import MaskedBatches, MaskingConfig, TokenStore
from toolkit.text.tokenizer import SPECIAL_TOKENS, WORD_START, SpecialIds


def stored_volumes(folder: Path, num_volumes: int, side: int) -> list[StoredVolume]:
    """Smooth random bodies before an empty background, in a store on the disk.

    Args:
        folder: The store.
        num_volumes: How many scans.
        side: Voxels along each side.
    """
    store = VolumeStore(folder)
    middle = np.indices((side, side, side)) - (side - 1) / 2
    body = (np.square(middle).sum(axis=0) < (0.45 * side) ** 2).astype(np.float32)
    volumes = []
    for number in range(num_volumes):
        texture = ndimage.gaussian_filter(np.random.default_rng([number]).random((side, side, side), np.float32), 2)
        array = (0.2 + 0.8 * (texture - texture.min()) / np.ptp(texture)) * body
        volumes.append(store.put(f"made-up-{number}", Volume(array[None], np.eye(4))))
    return volumes


def scan_batches(volumes: Sequence[StoredVolume], patch_size: int, batch_size: int, num_threads: int) -> PatchBatches:
    """Pairs of views, with the default strengths."""
    return PatchBatches(volumes, ViewConfig(patch_size=patch_size), batch_size, 0, num_threads=num_threads)


def scan_objective(*, batch_norm: bool = True, **encoder: Any) -> Objective:
    """SimCLR, the same weights each time.

    Args:
        batch_norm: As by default; else group norm and, in the head, layer norm, as gradient caching needs it.
        **encoder: See `ScanEncoderConfig`.
    """
    config = ScanEncoderConfig(norm="batch" if batch_norm else "group", **encoder)
    head = SimCLRConfig(head_norm="batch" if batch_norm else "layer")
    return build_objective(head, ScanEncoder(config, Preprocessing()).untrained(0))


class Words:
    """As much of a tokenizer as encoders and masking ask for: every piece is a word of its own."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.special = SpecialIds(*range(len(SPECIAL_TOKENS)))
        self.special_ids = np.array(self.special)
        self.maskable = self.word_starts = np.arange(vocab_size) >= len(SPECIAL_TOKENS)
        self.is_byte = np.zeros(vocab_size, dtype=bool)

    def __len__(self) -> int:
        return self.vocab_size

    def piece(self, index: int) -> str:
        """How a piece is spelt."""
        return SPECIAL_TOKENS[index] if index < len(SPECIAL_TOKENS) else f"{WORD_START}w"


def text_batches(tokenizer: Words, num_texts: int, longest: int, batch_size: int) -> MaskedBatches:
    """Texts of many lengths with word frequencies as Zipf's law has them, masked.

    Args:
        tokenizer: The vocabulary.
        num_texts: How many texts.
        longest: Tokens of the longest, start and end included; lengths are level from a quarter of it.
        batch_size: Texts a step.
    """
    rng = np.random.default_rng([1])
    lengths = rng.integers(longest // 4, longest - 1, num_texts)
    regular = np.arange(len(SPECIAL_TOKENS), len(tokenizer))
    frequency = 1 / (10.0 + np.arange(len(regular)))
    tokens = rng.choice(regular, lengths.sum(), p=frequency / frequency.sum()).astype(np.int32)
    store = TokenStore(tokens, np.r_[0, np.cumsum(lengths)], np.zeros(num_texts, np.uint16), ("xx",), None, longest)
    return MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=batch_size, seed=0)  # type: ignore[arg-type]


def text_objective(tokenizer: Words, **encoder: Any) -> Objective:
    """Masked modelling, the same weights each time.

    Args:
        tokenizer: The vocabulary.
        **encoder: See `TextEncoderConfig`.
    """
    model = TextEncoder.from_scratch(TextEncoderConfig(**encoder), tokenizer)  # type: ignore[arg-type]
    return build_objective(MLMConfig(), model)
