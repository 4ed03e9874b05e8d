"""Networks trained on the labels: from random weights, and from a pretrained encoder."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import nn

from toolkit.config import Section, digest
from toolkit.finetune.frozen import embed, to_batch, weights_digest
from toolkit.finetune.probe import ProbeConfig
from toolkit.finetune.task import Inputs, select
from toolkit.training.optim import decay_groups
from toolkit.training.schedules import learning_rate_factor

PART_SIZE = 8  # texts that are padded to one length


class TrainedConfig(Section):
    """How a network is trained on few labels.

    The defaults follow Zhang et al., "Revisiting Few-sample BERT Fine-tuning", ICLR 2021 (bias-corrected
    Adam, many steps) and Mosbach et al., "On the Stability of Fine-tuning BERT", ICLR 2021 (a warm-up of a
    tenth).
    """

    min_steps: int = Field(100, gt=0)
    """Optimiser steps at least, however few the labels."""
    min_epochs: int = Field(10, gt=0)
    """Passes over the labelled samples at least, however many they are."""
    batch_size: int = Field(32, gt=1)
    """Samples a step."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of the encoder."""
    head_lr: float = Field(1e-3, gt=0)
    """Peak learning rate of the classifier on top."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decay of matrices and kernels."""
    warmup_fraction: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises from 0."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    max_shift: int = Field(2, ge=0)
    """Scans: voxels by which a patch is shifted at random along each axis; half of the patches are mirrored
    as well."""


@dataclass
class Scratch:
    """Supervised training from random weights: the same network, steps and augmentation as fine-tuning has.

    Attributes:
        encoder: Any encoder of the architecture; its weights are not used.
        config: Steps and rates.
    """

    encoder: nn.Module
    config: TrainedConfig = field(default_factory=TrainedConfig)
    name: str = "scratch"
    pretraining: str = "none"

    def fingerprint(self) -> str:
        """Of the settings and of the weights that seed 0 gives."""
        return f"{digest(self.config)} {weights_digest(self.encoder.untrained(0))}"

    def fit_predict(
        self, labelled: Inputs, labels: np.ndarray, test: Inputs, num_classes: int, seed: int
    ) -> np.ndarray:
        """Probabilities of the test samples, (M, K) float32."""
        with one_thread(seed):
            encoder = self.encoder.untrained(seed)
            head = nn.Linear(encoder.embed_dim, num_classes)
            _train(encoder, head, labelled, labels, self.config, seed)
            return _predict(encoder, head, test)


@dataclass
class FineTune:
    """Full fine-tuning from a pretrained encoder.

    The head starts from a linear probe on the frozen features, so that the first steps do not distort them
    (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR
    2022).

    Attributes:
        encoder: Where training starts; it is copied.
        pretraining: What it was pretrained by.
        config: Steps and rates; the encoder's rate should be well below that of a start from random weights.
    """

    encoder: nn.Module
    pretraining: str
    config: TrainedConfig = field(default_factory=lambda: TrainedConfig(lr=2e-4))
    name: str = "ssl-finetune"

    def fingerprint(self) -> str:
        """Of the settings and the weights."""
        return f"{digest(self.config)} {weights_digest(self.encoder)}"

    def fit_predict(
        self, labelled: Inputs, labels: np.ndarray, test: Inputs, num_classes: int, seed: int
    ) -> np.ndarray:
        """Probabilities of the test samples, (M, K) float32."""
        with one_thread(seed):
            encoder = deepcopy(self.encoder)
            head = probe_head(embed(encoder, labelled), labels, num_classes)
            _train(encoder, head, labelled, labels, self.config, seed)
            return _predict(encoder, head, test)


def _train(
    encoder: nn.Module,
    head: nn.Linear,
    labelled: Inputs,
    labels: np.ndarray,
    config: TrainedConfig,
    seed: int,
) -> None:
    rng = np.random.default_rng([seed, 1])
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    size = min(config.batch_size, len(targets))
    num_steps = max(config.min_steps, math.ceil(config.min_epochs * len(targets) / size))
    groups = [group | {"lr": config.lr} for group in decay_groups(encoder, config.weight_decay)]
    groups += [group | {"lr": config.head_lr} for group in decay_groups(head, config.weight_decay)]
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(step, num_steps, schedule="cosine", warmup_fraction=config.warmup_fraction),
    )
    parameters = [*encoder.parameters(), *head.parameters()]
    encoder.train()
    for _, chosen in zip(range(num_steps), _batches(len(targets), size, rng), strict=False):
        for part in _parts(labelled, chosen):
            inputs = select(labelled, part)
            if isinstance(inputs, np.ndarray):
                inputs = _augmented(inputs, config.max_shift, rng)
            logits = head(encoder.pooled(encoder(to_batch(encoder, inputs))))
            (nn.functional.cross_entropy(logits, targets[part], reduction="sum") / size).backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()


def _batches(num_samples: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of full size; each sample comes once in a pass."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(num_samples)])
        yield queue[:size]
        queue = queue[size:]


def _parts(labelled: Inputs, chosen: np.ndarray) -> list[np.ndarray]:
    """A batch in parts whose gradients are added: texts by length, which halves the padding; patches in
    one."""
    if isinstance(labelled, np.ndarray):
        return [chosen]
    by_length = chosen[np.argsort([len(labelled[i]) for i in chosen], kind="stable")]
    return np.array_split(by_length, math.ceil(len(chosen) / PART_SIZE))


def _augmented(patches: np.ndarray, max_shift: int, rng: np.random.Generator) -> np.ndarray:
    """Mirrors half of the patches left to right, the one axis along which anatomy is symmetric, and shifts
    all."""
    padded = np.pad(patches, ((0, 0), (0, 0), *((max_shift, max_shift),) * 3), mode="edge")
    out = np.empty_like(patches)
    sides = patches.shape[2:]
    for i, (target, source) in enumerate(zip(out, padded, strict=True)):
        window = tuple(slice(o, o + n) for o, n in zip(rng.integers(0, 2 * max_shift + 1, size=3), sides, strict=True))
        target[:] = source[(slice(None), *window)]
        if rng.random() < 0.5:
            out[i] = target[:, ::-1].copy()
    return out


def probe_head(features: np.ndarray, labels: np.ndarray, num_classes: int) -> nn.Linear:
    """A linear layer that predicts as logistic regression on centred features does."""
    mean = features.mean(axis=0)
    scale = np.sqrt(((features - mean) ** 2).sum(axis=1).mean()) or 1.0
    probe = LogisticRegression(C=ProbeConfig().default_strength, max_iter=300).fit((features - mean) / scale, labels)
    coefficients, intercepts = probe.coef_ / scale, probe.intercept_
    if len(probe.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients, intercepts = (np.concatenate([-x, x]) / 2 for x in (coefficients, intercepts))
    head = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(intercepts.min() - 1)  # classes without labels
        head.weight[probe.classes_] = torch.from_numpy(coefficients).float()
        head.bias[probe.classes_] = torch.from_numpy(intercepts - coefficients @ mean).float()
    return head


def _predict(encoder: nn.Module, head: nn.Linear, test: Inputs) -> np.ndarray:
    with torch.no_grad():
        return head(torch.from_numpy(embed(encoder, test))).softmax(dim=1).numpy()


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Seeded, and on one thread: then a cell gives the same bits alone or beside others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
