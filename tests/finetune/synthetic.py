"""Small tasks and methods whose right answers are known, for the tests of this folder and their
subprocesses."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.finetune.baselines import KMeansFeatures, Majority, PrincipalComponents, Raw
from toolkit.finetune.probe import Features, Probe, ProbeConfig
from toolkit.finetune.study import StudyConfig, run_study
from toolkit.finetune.task import Task

WORDS = (("good", "fine", "lovely", "great"), ("bad", "poor", "awful", "dull"))
CONFIG = StudyConfig(budgets=(2, 8), num_draws=4, trained_budgets=(8,), trained_draws=2, seed=3)


def text_task(seed: int = 0, num_pool: int = 80) -> Task:
    """Two classes that differ in one word of each text."""
    rng = np.random.default_rng(seed)

    def texts(labels: np.ndarray) -> list[str]:
        fillers = ["the film", "this book", "a long story", "it was", "my phone", "and then"]
        return [
            f"{rng.choice(fillers)} {rng.choice(WORDS[label])} {rng.choice(fillers)} {rng.integers(100)}"
            for label in labels
        ]

    pool_labels, test_labels = np.tile([0, 1], num_pool // 2), np.tile([0, 1], 30)
    return Task(
        leg="text",
        name="sentiment",
        language="en",
        site="",
        pool=texts(pool_labels),
        pool_labels=pool_labels,
        pool_groups=np.arange(num_pool),
        test=texts(test_labels),
        test_labels=test_labels,
        test_groups=np.arange(1000, 1060),
        class_names=("good", "bad"),
        unlabelled=texts(rng.integers(0, 2, 200)),
    )


def scan_task(seed: int = 0, per_class: int = 20, size: int = 12) -> Task:
    """Three classes of patches: a bright slab along one axis, and noise; positions tell the class as well."""
    rng = np.random.default_rng(seed)

    def patches(labels: np.ndarray) -> np.ndarray:
        array = rng.normal(0.3, 0.3, size=(len(labels), 1, size, size, size)).astype(np.float32)
        for patch, label in zip(array, labels, strict=True):
            np.moveaxis(patch[0], label, 0)[: size // 2] += 0.5
        return array

    pool_labels, test_labels = np.tile([0, 1, 2], per_class), np.tile([0, 1, 2], 15)
    return Task(
        leg="scans",
        name="slabs",
        language="",
        site="b",
        pool=patches(pool_labels),
        pool_labels=pool_labels,
        pool_groups=np.repeat("a", len(pool_labels)),
        test=patches(test_labels),
        test_labels=test_labels,
        test_groups=np.repeat("b", len(test_labels)),
        class_names=("x", "y", "z"),
        unlabelled=patches(rng.integers(0, 3, 100)),
        pool_positions=pool_labels[:, None] * np.ones((1, 3)) * 9,
        test_positions=test_labels[:, None] * np.ones((1, 3)) * 9 + 1,
    )


@dataclass(frozen=True)
class Informed:
    """Stands for a pretrained method: features that hold the answer under noise. `pause_s` makes cells
    slow."""

    noise: float = 1.0
    name: str = "ssl-probe"
    pretraining: str = "simclr"
    pause_s: float = 0.0
    classifier: Probe = field(default_factory=lambda: Probe(ProbeConfig(strengths=(1.0, 100.0), num_folds=3)))

    def fingerprint(self) -> str:
        return repr(self.noise)

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        rng = np.random.default_rng(0)
        time.sleep(self.pause_s)
        return {
            "": tuple(
                np.eye(task.num_classes)[labels] + self.noise * rng.normal(size=(len(labels), task.num_classes))
                for labels in (task.pool_labels, task.test_labels)
            )
        }


class TinyEncoder(nn.Module):
    """One convolution for patches of 12^3, and counts of letters for texts: it stands for both legs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed_dim = 16
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv3d(1, 2, 6, stride=6)
            self.letters = nn.Linear(26, 16)
            self.dropout = nn.Dropout(0.1)

    def forward(self, batch: Tensor) -> Tensor:
        if batch.ndim == 2:
            return self.letters(batch)
        return self.dropout(self.convolution(batch).flatten(1))

    def pooled(self, features: Tensor) -> Tensor:
        return features

    def collate(self, texts: list[str]) -> Tensor:
        return torch.tensor([[text.count(chr(97 + i)) for i in range(26)] for text in texts]).float()

    def untrained(self, seed: int) -> "TinyEncoder":
        return TinyEncoder(seed)


def methods(pause_s: float = 0.0) -> list:
    return [
        Majority(),
        Raw(),
        PrincipalComponents(),
        KMeansFeatures(num_centres=8),
        Informed(0.3, pause_s=pause_s),
    ]


if __name__ == "__main__":  # for the test that kills it: a study whose methods take a moment each
    run_study([text_task(), scan_task()], methods(pause_s=0.5), CONFIG, Path(sys.argv[1]))
