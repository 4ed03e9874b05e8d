"""The loop: resumes bit for bit, divides by the global count, refuses what does not fit."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.config import RunConfig, Section
from toolkit.console import log
from toolkit.errors import CheckpointError, ConfigError, DiskError, Preempted, TrainingError
from toolkit.training import RunFolder, Step, TrainingConfig, checkpoints, fit, loop
from toolkit.training.budget import count_steps
from toolkit.training.optim import decay_groups


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

    samples_per_epoch = 160

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        time.sleep(self.delay_s)
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        x = x.chunk(num_shards)[shard]
        return {"x": x, "y": x.sum(1, keepdim=True) * self.scale}

    def num_tokens(self, step: int) -> int:
        return 100 + step

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        size = 16 // num_shards
        return list(range(step * 16 + shard * size, step * 16 + (shard + 1) * size))


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
    with pytest.raises(TrainingError, match=r"not finite at step 1 \(samples 0, 1, 2, \.\.\.\).*lower training\.lr"):
        train(tmp_path, batches=Lines(scale=float("inf")))
    assert not (tmp_path / "checkpoints").exists()


def test_only_matrices_decay() -> None:
    matrices, vectors = decay_groups(Regression(), 0.1)
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert len(matrices["params"]) == 2 and len(vectors["params"]) == 4  # type: ignore[arg-type]


def test_a_start_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    training = Config().training.model_copy(update={"num_tokens": 5})
    with pytest.raises(ConfigError, match=r"training\.num_tokens"):
        train(tmp_path / "run", Config(training=training), batches=object())  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run")
    assert {"config.yaml", "provenance.json"} < {path.name for path in (tmp_path / "run").iterdir()}


def test_a_folder_made_with_other_data_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path, Config(), data={"card": "b"})  # nothing was done with it
    RunFolder(tmp_path, Config(), data={"card": "a"}).log_metrics(1, {})
    RunFolder(tmp_path, Config(), data={"card": "a"})
    with pytest.raises(CheckpointError, match="made with other data \\(card changed\\)"):
        RunFolder(tmp_path, Config(), data={"card": "b"})


def test_a_budget_in_epochs_or_tokens_comes_to_steps() -> None:
    assert count_steps(TrainingConfig(num_epochs=2.5, batch_size=16), Lines()) == 25
    assert count_steps(TrainingConfig(num_tokens=303, batch_size=16), Lines()) == 3  # 100 + 101 + 102
    assert count_steps(TrainingConfig(num_tokens=304, batch_size=16), Lines()) == 4
    with pytest.raises(ConfigError, match=r"training\.num_tokens: these data have no tokens"):
        count_steps(TrainingConfig(num_tokens=5), object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"training\.num_epochs"):
        count_steps(TrainingConfig(num_epochs=5), object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num_epochs and num_tokens are both given"):
        TrainingConfig(num_epochs=1, num_tokens=1)


@pytest.mark.parametrize(
    "values",
    [{"ema_decay": 0.9}, {"precision": "bf16"}, {"optimizer": "lars"}, {"schedule": "wsd"}],
)
def test_a_run_that_is_cut_off_anywhere_ends_the_same(tmp_path: Path, values: dict[str, Any]) -> None:
    training = Config().training.model_copy(update=values | {"checkpoint_every": 7})
    whole = train(tmp_path / "whole", Config(training=training))

    class Cut(Lines):
        def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
            if step == 18:
                raise KeyboardInterrupt
            return super().batch(step, shard, num_shards)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Config(training=training), batches=Cut())
    assert sorted(path.name for path in (tmp_path / "cut/checkpoints").glob("*.pt")) == [
        "step-00000007.pt",
        "step-00000014.pt",
    ]
    resumed = train(tmp_path / "cut", Config(training=training))
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(number)

    class Signalled(Lines):
        def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
            if step == 12:
                os.kill(os.getpid(), number)
            return super().batch(step, shard, num_shards)

    train(tmp_path / "whole")
    with pytest.raises(Preempted, match=rf"ended by {number.name} after step 13; saved") as caught:
        train(tmp_path / "ended", batches=Signalled())
    assert caught.value.exit_code == code
    assert (tmp_path / "ended/checkpoints/step-00000013.pt").exists()
    assert signal.getsignal(number) == before
    train(tmp_path / "ended")
    assert (tmp_path / "ended/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "run", batches=Lines())
    newest = tmp_path / "run/checkpoints/step-00000030.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    module = train(tmp_path / "run")
    assert isinstance(module, Regression) and len(module.progress) == 10
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_evaluation_is_logged_and_changes_nothing(tmp_path: Path) -> None:
    whole = train(tmp_path / "plain")
    module = Regression()
    training = Config().training.model_copy(update={"evaluate_every": 4})
    seen = []

    def evaluate() -> dict[str, float]:
        torch.rand(3)
        seen.append(module.training)
        return {"knn_accuracy": 0.5}

    folder = RunFolder(tmp_path / "looked", Config(training=training))
    fit(module, Lines(), training, folder, seed=3, description="test", evaluate=evaluate)
    rows = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    assert [row["step"] for row in rows if "knn_accuracy" in row] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), module.parameters(), strict=True))


def test_code_of_another_version_is_refused_with_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path)
    (tmp_path / "checkpoints/step-00000030.json").unlink()
    monkeypatch.setattr(loop, "code_version", lambda: {"fewlabel": "9.9", "commit": "abc"})
    with pytest.raises(CheckpointError, match=r"written by fewlabel 0.* this is fewlabel 9\.9 commit abc.*--force"):
        train(tmp_path)
    forced = RunFolder(tmp_path, Config())
    forced.options = forced.options.model_copy(update={"force": True})
    fit(Regression(), Lines(), Config().training, forced, seed=3, description="test")


def test_a_finished_run_is_reused_whatever_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path)
    monkeypatch.setattr(loop, "code_version", lambda: {"fewlabel": "9.9"})
    train(tmp_path)


def test_force_goes_on_with_other_values_and_writes_them_down(tmp_path: Path) -> None:
    class Run(RunConfig):
        training: TrainingConfig = Config().training

    RunFolder(tmp_path, Run(output=tmp_path)).log_metrics(1, {})
    other = Run(output=tmp_path, training=Config().training.model_copy(update={"lr": 0.5}))
    with pytest.raises(CheckpointError, match=r"training\.lr.*--force"):
        RunFolder(tmp_path, other)
    RunFolder(tmp_path, other.model_copy(update={"force": True})).log_metrics(2, {})
    RunFolder(tmp_path, other)


def test_a_plan_says_what_a_run_takes_and_leaves_no_trace_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    whole = train(tmp_path / "whole")
    planned = RunFolder(tmp_path / "run", Config())
    planned.options = planned.options.model_copy(update={"plan": True})
    module = Regression()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with caplog.at_level("INFO", "fewlabel"):
        fit(module, Lines(), Config().training, planned, seed=3, description="test")
    assert re.search(r"test: 30 steps of 16 samples will take about .*s a step.*memory.*disk", caplog.text)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not (tmp_path / "run/metrics.jsonl").exists() and not (tmp_path / "run/checkpoints").exists()
    after = train(tmp_path / "run")
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), after.parameters(), strict=True))


def test_a_profile_is_a_trace_of_the_steps_asked_for(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Config())
    folder.options = folder.options.model_copy(update={"profile_steps": 2})
    fit(Regression(), Lines(), Config().training, folder, seed=3, description="test")
    names = {event.get("name", "") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert any("ProfilerStep" in name for name in names) and any("addmm" in name for name in names)


class Dying(Lines):
    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step, shard, num_shards)


def test_a_data_process_that_dies_is_named(tmp_path: Path) -> None:
    training = Config().training.model_copy(update={"num_workers": 1})
    with pytest.raises(TrainingError, match=r"prepares batches died.*training\.num_workers"):
        train(tmp_path, Config(training=training), batches=Dying())


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("toolkit.training.checkpoints.os.fsync", full)
    training = Config().training.model_copy(update={"checkpoint_every": 5})
    with pytest.raises(DiskError, match=r"the disk is full; the last good checkpoint is step \d+"):
        train(tmp_path / "run", Config(training=training))
    monkeypatch.undo()
    train(tmp_path / "whole", Config(training=training))
    train(tmp_path / "run", Config(training=training))
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_tensorboard_gets_the_same_values_and_none_twice(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = RunFolder(tmp_path, Config())
    folder.options = folder.options.model_copy(update={"trackers": ("tensorboard",)})
    fit(Regression(), Lines(), Config().training, folder, seed=3, description="test")
    events = accumulator.EventAccumulator(str(next((tmp_path / "tensorboard").rglob("events*")).parent)).Reload()
    rows = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    assert [event.step for event in events.Scalars("loss")] == [row["step"] for row in rows]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])


class Bent(Regression):
    """Its loss stays finite where the gradient does not: a root at 0."""

    def forward(self, batch: dict[str, torch.Tensor]) -> Step:
        step = super().forward(batch)
        bend = self.net[0].weight.sum() * 0.0
        at_zero = bool((batch["x"][0, 0] == self.bad_value).item())
        return Step(step.loss_sum + (bend.abs().sqrt() if at_zero else bend), step.count)

    bad_value = Lines().batch(9)["x"][0, 0]


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    """The tenth step is one that saves: its weights would poison every restart."""
    with pytest.raises(TrainingError, match=r"not finite at step 10 \(samples 144"):
        train(tmp_path, module=Bent())
    assert not list((tmp_path / "checkpoints").glob("*"))
    assert json.loads((tmp_path / "not_finite.json").read_text())["step"] == 9


def test_where_a_look_costs_time_the_step_that_went_wrong_is_still_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Lines):
        def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
            batch = super().batch(step, shard, num_shards)
            return batch | {"y": batch["y"] * (float("nan") if step == 2 else 1.0)}

    monkeypatch.setattr("toolkit.training.engine.Engine.on_gpu", True)
    with pytest.raises(TrainingError, match=r"not finite at step 3 \(samples 32"):
        train(tmp_path, batches=Broken())


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    command = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); "
        "sys.stdin.read()"
    )
    tmp_path.joinpath("run").mkdir()
    holder = [sys.executable, "-c", command, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match="another process is training in this folder; wait for it"):
            train(tmp_path / "run")
        other.communicate("")
    train(tmp_path / "run")  # who has ended, however, holds nothing


def test_trackers_are_flushed_before_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Recorder:
        def log(self, step: int, values: dict[str, float]) -> None:
            events.append("log")

        def flush(self) -> None:
            time.sleep(0.2)  # longer than a step: training must not wait, and closing must
            events.append("flush")

        def close(self) -> None:
            events.append("close")

    write = checkpoints._write_state
    monkeypatch.setattr(loop, "open_trackers", lambda *_: [Recorder()])
    monkeypatch.setattr(checkpoints, "_write_state", lambda *args: (events.append("save"), write(*args))[1])
    train(tmp_path)
    events = [event for event in events if event != "log"]
    assert events.count("save") >= 2 and events[-1] == "close"
    assert events[:-1] == ["flush", "save"] * events.count("save")
