"""Small encoders and batches of each modality, for the contract suite."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from toolkit.config import Section
from toolkit.encoders.networks.vit import ViTConfig
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.objectives import build_objective
from toolkit.scans import Preprocessing
from toolkit.text import MaskedBatches, MaskingConfig, TokenizerConfig, TokenStore, train_tokenizer
from toolkit.text.pairs import PairBatches, Pairing, SegmentPairs, TranslationPairs
from toolkit.text.tokenizer import TextTokenizer

WORDS = "the cat sat on a warm mat while seven grey birds sang old songs in the tall green tree".split()  # noqa: SIM905
TEXTS = [" ".join(WORDS[start : start + 3 + start % 5] + WORDS[: start % 4]) for start in range(len(WORDS) - 3)] * 3


@lru_cache(maxsize=1)
def tokenizer() -> TextTokenizer:
    with TemporaryDirectory() as folder:
        return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=400), Path(folder))


class LinearEncoder(nn.Module):
    """Pooled features are a linear map of eight voxels."""

    embed_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        return features


def tiny(config: Section) -> Any:
    """A method around a linear encoder, in float64."""
    return build_objective(config, LinearEncoder()).double()


def tiny_batch(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Two unrelated views of eight voxels."""
    generator = torch.Generator().manual_seed(seed)
    return {f"view{i}": torch.randn(size, 1, 2, 2, 2, generator=generator, dtype=torch.float64) for i in range(2)}


def example_encoder(modality: str, families: tuple[str, ...] | None = None, norm: str = "batch") -> nn.Module:
    """An untrained encoder, the same each time: convolutional, unless a method needs a transformer."""
    if modality == "scans":
        if families and "cnn" not in families:
            vit = ViTConfig(hidden_size=12, num_layers=1, num_heads=2)
            return ScanEncoder(vit, Preprocessing()).untrained(0)
        return ScanEncoder(ScanEncoderConfig(width=4, norm=norm), Preprocessing()).untrained(0)
    config = TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2, dropout=0.0)
    return TextEncoder.from_scratch(config, tokenizer(), seed=0)


def vivid(objective: Any) -> Any:
    """The same with ten times its matrices: at the start attention moves a loss too little to be seen."""
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return objective.eval()


def text_batches(size: int, pairing: Pairing | None = None) -> MaskedBatches | PairBatches:
    """Batches of single texts or of pairs; what is called a translation is the next text."""
    masking = MaskingConfig(share=0.3)
    if pairing == "translation":
        neighbours = zip(TEXTS, TEXTS[1:] + TEXTS[:1], ["en-en"] * len(TEXTS), strict=True)
        translated = TranslationPairs.build(neighbours, tokenizer(), 64)
        return PairBatches(translated, tokenizer(), masking, pairing=pairing, batch_size=size, seed=0)
    store = TokenStore.build(TEXTS, ["en"] * len(TEXTS), tokenizer(), 32)
    if pairing:
        segments = SegmentPairs(store, tokenizer(), pairing, 32)
        return PairBatches(segments, tokenizer(), masking, pairing=pairing, batch_size=size, seed=0)
    return MaskedBatches(store, tokenizer(), masking, batch_size=size, seed=0)


def example_batch(
    modality: str, size: int = 8, shard: int = 0, num_shards: int = 1, pairing: Pairing | None = None
) -> Any:
    """A part of a batch of `size` samples, the same each time."""
    if modality == "scans":
        generator = torch.Generator().manual_seed(2)
        view0 = torch.rand(size, 1, 24, 24, 24, generator=generator)
        view1 = view0 + 0.1 * torch.rand(view0.shape, generator=generator)
        batch = {"view0": view0, "view1": view1, "draws": torch.arange(size)}
        return {name: rows.chunk(num_shards)[shard] for name, rows in batch.items()}
    return text_batches(size, pairing).batch(0, shard, num_shards)
