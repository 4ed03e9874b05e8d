"""The loop: resumes bit for bit, divides by the global count, refuses what does not fit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from toolkit.config import Section
from toolkit.errors import CheckpointError, TrainingError
from toolkit.training import RunFolder, Step, TrainingConfig, fit
from toolkit.training.optim import decay_groups, warmup_cosine


class Regression(nn.Module):
    """Fits random lines, with dropout so that the random state matters."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.progress: list[float] = []

    def forward(self, batch: dict[str, torch.Tensor]) -> Step:
        errors = (self.net(batch["x"]) - batch["y"]).square()
        return Step(errors.sum(), len(errors), embeddings=batch["x"])

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


class Lines:
    def __init__(self, scale: float = 1.0, delay_s: float = 0.0) -> None:
        self.scale, self.delay_s = scale, delay_s

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        time.sleep(self.delay_s)
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 4, generator=generator)
        return {"x": x, "y": x.sum(1, keepdim=True) * self.scale}


class Config(Section):
    training: TrainingConfig = TrainingConfig(num_steps=30, log_every=5, checkpoint_every=10, batch_size=16)
    output: str = "runs"


def train(
    path: Path, config: Config | None = None, batches: Lines | None = None, module: nn.Module | None = None
) -> nn.Module:
    torch.set_num_threads(1)  # sums depend on it: a child process and this one must agree
    module, config = module or Regression(), config or Config()
    fit(module, batches or Lines(), config.training, RunFolder(path, config), seed=3, description="test")
    return module


def test_same_seed_same_metrics_and_weights(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("wait_s", [0.3, 0.8])
def test_killed_run_ends_with_the_same_metrics(tmp_path: Path, wait_s: float) -> None:
    train(tmp_path / "whole")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    code += "import test_loop as t; from pathlib import Path; "
    code += f"t.train(Path({str(tmp_path / 'killed')!r}), batches=t.Lines(delay_s=0.05))"
    process = subprocess.Popen([sys.executable, "-c", code])
    metrics = tmp_path / "killed/metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(wait_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_rows = metrics.read_text().splitlines()
    module = train(tmp_path / "killed")
    assert len(killed_rows) < 6
    assert metrics.read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert isinstance(module, Regression)


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    first = train(tmp_path)
    again = Regression()
    train(tmp_path, module=again)
    assert again.progress == []
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    train(tmp_path)
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 35, "loss": 0}\n{"step": 40, "lo')
    train(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_metrics_have_the_collapse_monitors_and_no_clock(tmp_path: Path) -> None:
    train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    assert {"loss", "lr", "grad_norm", "embedding_std", "effective_rank"} <= rows[0].keys()
    assert not {"seconds", "time"} & rows[0].keys()


def test_another_configuration_is_refused_with_the_key(tmp_path: Path) -> None:
    train(tmp_path)
    other = Config(training=Config().training.model_copy(update={"lr": 0.5}))
    with pytest.raises(CheckpointError, match=r"training\.lr: 0\.001, now 0\.5.*another output"):
        train(tmp_path, other)
    train(tmp_path, Config(output="elsewhere"))


def test_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        train(tmp_path, module=Regression(width=9))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nan|inf"):
        train(tmp_path, batches=Lines(scale=float("inf")))
    assert not (tmp_path / "checkpoints").exists()


def test_schedule_rises_to_one_and_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[9] == 1.0 and max(factors) == 1.0
    assert factors[0] == pytest.approx(0.1) and factors[100] == pytest.approx(0.0)
    assert factors[55] == pytest.approx(0.5)


def test_only_matrices_decay() -> None:
    matrices, vectors = decay_groups(Regression(), 0.1)
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert len(matrices["params"]) == 2 and len(vectors["params"]) == 4  # type: ignore[arg-type]


def test_a_folder_made_with_other_data_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path, Config(), data={"card": "a"})
    RunFolder(tmp_path, Config(), data={"card": "a"})
    with pytest.raises(CheckpointError, match="made with other data \\(card changed\\)"):
        RunFolder(tmp_path, Config(), data={"card": "b"})
