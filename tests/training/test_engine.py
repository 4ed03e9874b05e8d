"""One step: portions, out of memory, averages, memory savers."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.test_loop import Lines, Regression
from toolkit.errors import ConfigError, TrainingError
from toolkit.training import RunFolder, Step, TrainingConfig, fit
from toolkit.training.budget import largest_step
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed, Layout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 scales its loss on a GPU only")


class Independent(Regression):
    """Without batch norm and dropout, so that portions and the whole batch agree."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Greedy(Independent):
    """Runs out of memory with more than so many samples."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, batch: dict[str, torch.Tensor]) -> Step:
        self.sizes.append(len(batch["x"]))
        if len(batch["x"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


def stepped(objective: nn.Module, num_steps: int = 3, **values: Any) -> tuple[nn.Module, Engine]:
    config = TrainingConfig(**({"num_steps": 10, "batch_size": 16, "lr": 0.1} | values))
    engine = Engine(objective, config, seed=0)
    feed = Feed(Lines(), config, config.num_steps, engine.accelerator.device)
    engine.begin(feed, 0)
    for step in range(num_steps):
        engine.step(feed, step, config.lr, (step + 1) / config.num_steps)
    return objective, engine


def assert_close(one: nn.Module, other: nn.Module) -> None:
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("world_size", "micro", "num_shards", "mine"), [
    (1, None, 1, [0]), (1, 4, 4, [0, 1, 2, 3]), (2, None, 2, [1]), (2, 4, 4, [2, 3]), (4, 16, 4, [1]),
])  # fmt: skip
def test_the_global_batch_is_shared_out_without_overlap(
    world_size: int, micro: int | None, num_shards: int, mine: list[int]
) -> None:
    layout = Layout.of(16, micro, min(1, world_size - 1), world_size)
    assert (layout.num_shards, list(layout.mine)) == (num_shards, mine)
    every = [shard for rank in range(world_size) for shard in Layout.of(16, micro, rank, world_size).mine]
    assert every == list(range(num_shards))


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 16 is not a multiple of the 3 processes"):
        Layout.of(16, None, 0, 3)
    with pytest.raises(ConfigError, match=r"micro_batch_size 3 does not divide the 8 samples"):
        Layout.of(16, 3, 0, 2)


def test_accumulation_equals_the_whole_batch() -> None:
    assert_close(stepped(Independent(), micro_batch_size=4)[0], stepped(Independent())[0])


def test_out_of_memory_leads_to_smaller_portions_of_the_same_batch() -> None:
    greedy, engine = stepped(Greedy(most=5))
    assert greedy.sizes[:3] == [16, 8, 4] and set(greedy.sizes[3:]) == {4}
    assert engine.layout.num_shards == 4
    assert_close(greedy, stepped(Independent())[0])


def test_out_of_memory_is_final_where_portions_would_change_the_gradients() -> None:
    class GreedyNorm(Regression):
        def forward(self, batch: dict[str, torch.Tensor]) -> Step:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"out of memory with 16 samples.*encoder\.norm: group"):
        stepped(GreedyNorm())
    with pytest.raises(TrainingError, match=r"out of memory with 2 samples at once; make samples"):
        stepped(Greedy(most=1))


def test_the_average_is_the_geometric_one_and_is_what_remains() -> None:
    config = {"ema_decay": 0.75, "lr": 0.05}
    snapshots = [copy.deepcopy(stepped(Independent(), num_steps=n, **config)[0].state_dict()) for n in (1, 2, 3)]
    objective, engine = stepped(Independent(), num_steps=3, **config)
    engine.finish()
    for name, value in objective.state_dict().items():
        expected = snapshots[0][name]  # torch's average begins as a copy of the first
        for later in snapshots[1:]:
            expected = 0.75 * expected + 0.25 * later[name]
        torch.testing.assert_close(value, expected)


def test_the_same_randomness_each_time_a_portion_is_seen() -> None:
    engine = stepped(Independent(), num_steps=0)[1]
    with engine._randomness(3, 1):
        first = torch.rand(4)
    with engine._randomness(3, 1):
        again = torch.rand(4)
    with engine._randomness(3, 2):
        other = torch.rand(4)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("precision", "optimizer"), [
    ("bf16", "adamw"),
    ("bf16", "lars"),
    pytest.param("fp16", "adamw", marks=needs_gpu),
])  # fmt: skip
def test_mixed_precision_trains_and_its_state_round_trips(precision: str, optimizer: str) -> None:
    objective, engine = stepped(Regression(), precision=precision, optimizer=optimizer)
    state = copy.deepcopy(engine.state_dict())
    other, second = stepped(Regression(), num_steps=0, precision=precision, optimizer=optimizer)
    second.load_state_dict(state)
    assert all(torch.equal(p, q) for p, q in zip(objective.parameters(), other.parameters(), strict=True))
    assert second.state_dict()["scaler"] == state["scaler"] and bool(state["scaler"]) == (precision == "fp16")


@needs_gpu
def test_a_step_that_half_precision_skips_leaves_all_as_it_was() -> None:
    class Overflowing(Independent):
        steps = 0

        def forward(self, batch: dict[str, torch.Tensor]) -> Step:
            step = super().forward(batch)
            return Step(step.loss_sum * 1e30, step.count)

        def after_step(self, progress: float) -> None:
            self.steps += 1

    objective, engine = stepped(Overflowing(), num_steps=1, precision="fp16", ema_decay=0.9)
    assert objective.steps == 0 and engine.average is not None and int(engine.average.n_averaged) == 0
    assert all(torch.equal(p, q) for p, q in zip(objective.parameters(), Independent().parameters(), strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it works")
def test_half_precision_without_a_gpu_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"training\.precision: fp16 needs a GPU.*bf16"):
        stepped(Regression(), precision="fp16")


def test_a_rehearsal_changes_nothing_but_the_portions() -> None:
    greedy, engine = stepped(Greedy(most=5), num_steps=0)
    before = copy.deepcopy(engine.state_dict())
    engine.rehearse(Feed(Lines(), engine.config, 10, engine.accelerator.device), 7)
    assert engine.layout.num_shards == 4 and greedy.sizes == [16, 8, 4, 4, 4, 4]
    after = engine.state_dict()
    assert all(torch.equal(after["module"][name], value) for name, value in before["module"].items())
    assert after["optimizer"]["state"] == before["optimizer"]["state"] == {}


def test_a_run_where_memory_can_run_out_rehearses_its_largest_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed = []
    monkeypatch.setattr(Engine, "on_gpu", True)
    monkeypatch.setattr(Engine, "rehearse", lambda self, feed, step: rehearsed.append(step))
    config = TrainingConfig(num_steps=8, batch_size=16)
    fit(Independent(), Lines(), config, RunFolder(tmp_path, config), 0, "test")
    assert rehearsed == [7]  # `Lines` has more tokens in each step than in the one before
    assert largest_step(object(), range(3, 8)) == 3  # type: ignore[arg-type]


class Filtered(nn.Module):
    """A convolution whose weights do not lie in memory in the order of their indices, as a scan encoder's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv3d(2, 3, (1, 1, 2), bias=False).to(memory_format=torch.channels_last_3d)

    def forward(self, batch: dict[str, torch.Tensor]) -> Step:
        errors = self.net(batch["x"].reshape(-1, 2, 1, 1, 2)).sum(1).flatten(1) - batch["y"]
        return Step(errors.square().sum(), len(errors))


def test_moments_lie_in_memory_as_their_weights_do_after_a_resume(tmp_path: Path) -> None:
    """Fused AdamW goes through memory and does not look at strides."""
    whole = stepped(Filtered(), num_steps=4)[0]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, stepped(Filtered(), num_steps=2)[1].state_dict())
    objective, engine = stepped(Filtered(), num_steps=0)
    engine.load_state_dict(checkpoints.newest()[1])  # type: ignore[index]
    feed = Feed(Lines(), engine.config, 10, engine.accelerator.device)
    engine.begin(feed, 2)
    for step in (2, 3):
        engine.step(feed, step, engine.config.lr, 0.0)
    assert not whole.net.weight.is_contiguous() and torch.equal(objective.net.weight, whole.net.weight)
