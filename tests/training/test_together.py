"""Runs of several processes: they may be resumed by another number of them, and in other portions."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.processes import run_together
from tests.training.test_loop import Lines, Regression
from toolkit.config import Section
from toolkit.errors import TrainingError
from toolkit.training import RunFolder, TrainingConfig, fit, is_main_process, main_process_first


class Config(Section):
    training: TrainingConfig = TrainingConfig(
        num_steps=20, log_every=5, checkpoint_every=6, batch_size=16, ema_decay=0.9
    )


class Normed(Regression):
    """Batch norm, but no dropout: its draws follow the shards."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.unused = nn.Linear(2, 2).double()  # as the last stage is where an encoder pools an earlier one


class DoubleLines(Lines):
    """Writes down which samples each process asked for, and stops where it is told to."""

    def __init__(self, asked: Path | None = None, stop_at: int | None = None) -> None:
        super().__init__()
        self.asked, self.stop_at = asked, stop_at

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        if step == self.stop_at:
            raise TrainingError("stopped by the test")
        if self.asked is not None:
            with self.asked.open("a") as file:
                file.write(json.dumps([step, self.sample_ids(step, shard, num_shards)]) + "\n")
        return {name: value.double() for name, value in super().batch(step, shard, num_shards).items()}


def train(path: Path, stop_at: int | None = None) -> None:
    rank = int(os.environ.get("RANK", 0))
    asked = path.parent / f"{path.name}-asked-{rank}.jsonl"
    module = Normed()
    try:
        fit(
            module,
            DoubleLines(asked, stop_at),
            Config().training,
            RunFolder(path, Config()),
            seed=3,
            description="test",
        )
    except TrainingError:
        return
    assert is_main_process() == (rank == 0)
    if is_main_process():
        torch.save(module.state_dict(), path.parent / f"{path.name}.pt")


def first_prepares(path: Path) -> None:
    with main_process_first():
        if not (path / "prepared").exists():
            assert is_main_process()
            (path / "prepared").touch()


def samples(folder: Path, name: str) -> dict[int, list[int]]:
    """By step, what all processes together asked for, in the order of the global batch."""
    found: dict[int, dict[int, list[int]]] = {}
    for path in folder.glob(f"{name}-asked-*.jsonl"):
        for step, ids in map(json.loads, path.read_text().splitlines()):
            found.setdefault(step, {})[ids[0]] = ids
    # Steps between the checkpoint and the stop were done twice, by two numbers of processes.
    return {
        step: list(dict.fromkeys(n for first in sorted(parts) for n in parts[first])) for step, parts in found.items()
    }


def assert_same_run(folder: Path, one: str, other: str) -> None:
    first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    rows = [[json.loads(line) for line in (folder / name / "metrics.jsonl").open()] for name in (one, other)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]] == [5, 10, 15, 20]
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=1e-6)  # monitors too: they see the embeddings of all processes


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    run_together(2, first_prepares, tmp_path)
    train(tmp_path / "one")
    run_together(2, train, tmp_path / "two")
    assert_same_run(tmp_path, "one", "two")
    assert samples(tmp_path, "one") == samples(tmp_path, "two")
    assert samples(tmp_path, "two")[3] == list(range(48, 64))


@pytest.mark.slow
def test_a_run_of_four_processes_goes_on_with_two(tmp_path: Path) -> None:
    train(tmp_path / "one")
    run_together(4, train, tmp_path / "elastic", 14)
    assert sorted(path.name for path in (tmp_path / "elastic/checkpoints").glob("*.pt")) == [
        "step-00000006.pt",
        "step-00000012.pt",
    ]
    run_together(2, train, tmp_path / "elastic")
    assert_same_run(tmp_path, "one", "elastic")
    assert samples(tmp_path, "one") == samples(tmp_path, "elastic")
