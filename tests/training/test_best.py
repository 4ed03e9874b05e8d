"""The best weights: those of the best logged value, whatever was cut off in between."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_loop import Config, Lines, Regression, train
from toolkit.errors import ConfigError
from toolkit.training import RunFolder, fit
from toolkit.training.best import Best
from toolkit.training.config import KeepBest
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed
from toolkit.training.planner import plan

VALUES = {5: 0.1, 10: 0.4, 15: 0.9, 20: 0.3, 25: 0.9, 30: 0.2}
"""By step; the best one is tied, and the first of both counts."""


def config(**values: Any) -> Config:
    """Looks every five steps, checkpoints every ten."""
    training = Config().training.model_copy(update={"evaluate_every": 5, "log_every": 1} | values)
    return Config(training=training)


class Watched(Regression):
    """Counts its steps, so that a look can have a value of each."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.long))
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def after_step(self, progress: float) -> None:
        self.done += 1

    def look(self) -> Mapping[str, float]:
        step = int(self.done)
        self.seen[step] = {name: value.clone() for name, value in self.state_dict().items()}
        return {"knn_accuracy": VALUES[step]}


def trained(path: Path, config: Config, batches: Lines | None = None) -> tuple[Watched, int]:
    torch.set_num_threads(1)
    module = Watched()
    folder = RunFolder(path, config)
    kept = fit(module, batches or Lines(), config.training, folder, seed=3, description="test", evaluate=module.look)
    return module, kept


@pytest.mark.parametrize(
    ("mode", "after", "best"),
    [("max", 0.0, 15), ("max", 0.5, 15), ("max", 0.51, 25), ("min", 0.0, 5), ("min", 0.5, 30)],
)
def test_the_weights_of_the_best_look_are_left(tmp_path: Path, mode: str, after: float, best: int) -> None:
    module, kept = trained(tmp_path, config(keep_best=KeepBest(metric="knn_accuracy", mode=mode, after=after)))
    assert kept == best
    assert all(torch.equal(value, module.seen[best][name]) for name, value in module.state_dict().items())


def test_without_it_the_last_weights_are_left(tmp_path: Path) -> None:
    module, kept = trained(tmp_path, config())
    assert kept == 30 and int(module.done) == 30
    state = torch.load(tmp_path / "checkpoints/step-00000030.pt", weights_only=True)
    assert state["best"] == {}


def test_a_value_that_a_method_logs_itself_will_do(tmp_path: Path) -> None:
    module, kept = trained(tmp_path, config(keep_best=KeepBest(after=0.0), log_every=5))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == max(rows, key=lambda row: row["effective_rank"])["step"]
    assert int(module.done) == kept


class Cut(Lines):
    """Breaks off after the best look, which the newest checkpoint does not know, or long after it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        if step == self.at:
            raise KeyboardInterrupt
        return super().batch(step, shard, num_shards)


@pytest.mark.parametrize("at", [17, 23])
@pytest.mark.parametrize("values", [{}, {"ema_decay": 0.9}])
def test_a_run_that_is_cut_off_leaves_the_same_weights(tmp_path: Path, at: int, values: dict[str, Any]) -> None:
    chosen = config(keep_best=KeepBest(metric="knn_accuracy"), **values)
    whole, kept = trained(tmp_path / "whole", chosen)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", chosen, Cut(at))
    again, kept_again = trained(tmp_path / "cut", chosen)
    assert kept == kept_again == 15
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    finished, kept_at_last = trained(tmp_path / "cut", chosen)
    assert kept_at_last == 15 and finished.seen == {}
    assert all(torch.equal(value, finished.state_dict()[name]) for name, value in whole.state_dict().items())


def test_with_an_average_the_averages_weights_are_left(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "plain", config(keep_best=KeepBest(metric="knn_accuracy")))
    module, _ = trained(tmp_path / "average", config(keep_best=KeepBest(metric="knn_accuracy"), ema_decay=0.9))
    assert not torch.equal(plain.net[0].weight, module.net[0].weight)
    assert torch.equal(plain.net[0].weight, module.seen[15]["net.0.weight"])  # both trained alike


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_value_that_the_run_does_not_log_is_refused_at_the_first_look(tmp_path: Path, log_every: int) -> None:
    wrong = config(keep_best=KeepBest(metric="knn_acuracy"), log_every=log_every)
    with pytest.raises(ConfigError, match=r"training\.keep_best\.metric.*'knn_acuracy'; did you mean 'knn_accuracy'"):
        trained(tmp_path, wrong)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5 // log_every


def test_another_value_is_not_compared_with_the_one_of_before() -> None:
    """A run that goes on with --force."""
    first = Best(KeepBest(metric="loss", mode="min"), num_steps=2)
    second = Best(KeepBest(metric="effective_rank"), num_steps=2)
    weights: Callable[[], dict[str, torch.Tensor]] = lambda: {"w": torch.ones(1)}  # noqa: E731
    first.look(1, {"loss": 3.0}, weights, complete=True)
    second.load_state_dict(first.state_dict())
    assert second.step is None and second.state_dict() == {}
    first.look(2, {"loss": float("nan")}, weights, complete=True)
    assert first.step == 1


def test_a_finished_run_with_other_values_is_another_run(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ValueError, match=r"training\.keep_best"):
        train(tmp_path, Config(training=Config().training.model_copy(update={"keep_best": KeepBest()})))


def test_a_plan_counts_the_best_weights_in_each_checkpoint() -> None:
    disk_gb = []
    for keep_best in (None, KeepBest()):
        training = config(keep_best=keep_best).training
        engine = Engine(Regression(), training, seed=3)
        disk_gb.append(plan(engine, Feed(Lines(), training, 30, torch.device("cpu")), 30, "test")["disk_gb"])
    of_weights = sum(value.nbytes for value in Regression().state_dict().values())
    assert (disk_gb[1] - disk_gb[0]) * 1e9 == pytest.approx((training.keep_checkpoints + 1) * of_weights)
