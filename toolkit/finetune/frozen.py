"""Probes on frozen encoders: pretrained, or with random weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.finetune.methods import Classifier
from toolkit.finetune.probe import Features, Probe, scalings
from toolkit.finetune.task import Inputs, Task, select


class Encoder(Protocol):
    """What this room needs of an encoder (an `nn.Module`).

    Those of text also have `collate(texts) -> batch`, and `embed_variants(texts) -> {name: (N, D)}` where
    they offer several poolings; patches go to `forward` as a tensor (B, C, I, J, K), normalised.

    Attributes:
        embed_dim: Length of what `pooled` gives.
    """

    embed_dim: int

    def forward(self, batch: Any) -> Any:
        """Features of a batch."""
        ...

    def pooled(self, features: Any) -> Tensor:
        """Embeddings (B, embed_dim)."""
        ...

    def untrained(self, seed: int) -> "Encoder":
        """The same architecture with random weights."""
        ...


@dataclass(frozen=True)
class FrozenEncoder:
    """A probe on an encoder's embeddings; cross-validation on the labels chooses among its poolings.

    Attributes:
        encoder: Its weights stay as they are.
        pretraining: What it was pretrained by.
        name: As in `results.csv`.
        classifier: What is fitted on the labelled embeddings.
    """

    encoder: nn.Module
    pretraining: str
    name: str = "ssl-probe"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Of the weights and the poolings."""
        return weights_digest(self.encoder)

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Each pooling's embeddings, centred and standardised; the default pooling first."""
        pool, test = (self._variants(inputs) for inputs in (task.pool, task.test))
        return scalings({name: (pool[name], test[name]) for name in pool})

    def _variants(self, inputs: Inputs) -> Mapping[str, np.ndarray]:
        if hasattr(self.encoder, "embed_variants"):
            return self.encoder.embed_variants(inputs)
        return {"": embed(self.encoder, inputs)}


def random_encoder(encoder: nn.Module, seed: int = 0) -> FrozenEncoder:
    """The baseline `random`: a probe on the same architecture with random weights."""
    return FrozenEncoder(encoder.untrained(seed), "none", name="random")


def to_batch(encoder: nn.Module, inputs: Inputs) -> Any:
    """What `encoder` takes: a tensor of patches, or what its `collate` makes of texts."""
    if isinstance(inputs, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
    return encoder.collate(inputs)


@torch.no_grad()
def embed(encoder: nn.Module, inputs: Inputs, batch_size: int = 128) -> np.ndarray:
    """Pooled features of normalised inputs with the weights as they are, (N, embed_dim) float32."""
    encoder.eval()
    # Texts of like length together: less padding. The order is undone below.
    order = np.argsort([len(x) for x in inputs], kind="stable") if isinstance(inputs, list) else np.arange(len(inputs))
    features = np.empty((len(inputs), encoder.embed_dim), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        features[part] = encoder.pooled(encoder(to_batch(encoder, select(inputs, part)))).float().numpy()
    return features


def weights_digest(encoder: nn.Module) -> str:
    """16 hex digits of all parameters and buffers, and of the poolings where there are several."""
    hashed = hashlib.sha256(repr(getattr(encoder, "variants", "")).encode())
    for name, tensor in encoder.state_dict().items():
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        hashed.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]
