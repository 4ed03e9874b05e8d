"""Trackers: what was logged can be read back, a resumed run shows no step twice, nothing of the machine gets out."""

import json
import logging
import os
import socket
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from toolkit.console import log
from toolkit.errors import ConfigError
from toolkit.training import trackers
from toolkit.training.trackers import open_trackers


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the caller's variables, and none that the trackers set stays."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "WANDB_"))}
    for key in os.environ.keys() - own.keys():
        monkeypatch.delenv(key)
    for key in trackers._MLFLOW_DEFAULTS:
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.WARNING, logger="fewlabel")
    return caplog


def loss(step: int) -> dict[str, float]:
    return {"loss": 1 / step, "rank": float(step)}


def log_steps(name: str, folder: Path, steps: range, close: bool = True) -> None:
    config = {"lr": 0.1, "data": {"folder": "/home/dr-who/scans", "path": Path("scans"), "size": 3}}
    (tracker,) = open_trackers([name], folder, "mlm", config, steps.start - 1)
    for step in steps:
        tracker.log(step, loss(step))
    if close:
        tracker.close()
    else:
        tracker.flush()


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder / "tensorboard" / "mlm")).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_keeps_each_value(tmp_path: Path) -> None:
    log_steps("tensorboard", tmp_path, range(1, 4))
    found = events(tmp_path)
    assert found["loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["rank"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_tensorboard_has_what_was_logged_before_a_checkpoint(tmp_path: Path) -> None:
    log_steps("tensorboard", tmp_path, range(1, 4), close=False)
    assert [step for step, _ in events(tmp_path)["loss"]] == [1, 2, 3]


def test_resumed_tensorboard_shows_no_step_twice_and_none_too_few(tmp_path: Path) -> None:
    log_steps("tensorboard", tmp_path, range(1, 8))  # killed after 7 steps, its checkpoint was of step 5
    log_steps("tensorboard", tmp_path, range(6, 10))
    assert [step for step, _ in events(tmp_path)["loss"]] == list(range(1, 10))


def test_a_run_that_begins_anew_shows_nothing_of_its_first_try(tmp_path: Path) -> None:
    log_steps("tensorboard", tmp_path, range(1, 5))  # killed before its first checkpoint
    log_steps("tensorboard", tmp_path, range(1, 3))
    assert [step for step, _ in events(tmp_path)["loss"]] == [1, 2]


def test_mlflow_goes_on_in_the_same_run_and_keeps_no_step_twice(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    log_steps("mlflow", tmp_path, range(1, 8))
    log_steps("mlflow", tmp_path, range(6, 10))
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("fewlabel").experiment_id])
    assert run.info.run_id == json.loads((tmp_path / "trackers.json").read_text())["mlflow/mlm"]
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {step: 1 / step for step in range(1, 10)}
    assert len(history) == 9 and run.info.status == "FINISHED" and run.info.run_name == "mlm"
    assert run.data.params == {"lr": "0.1", "data.size": "3"}


def test_mlflow_follows_its_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "thesis")
    log_steps("mlflow", tmp_path, range(1, 3))
    assert mlflow.MlflowClient((tmp_path / "elsewhere").as_uri()).get_experiment_by_name("thesis")
    assert not (tmp_path / "mlruns").exists()


def test_a_server_that_is_gone_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert open_trackers(["mlflow"], tmp_path, "mlm", {}) == []
    assert len(warnings.records) == 1 and "mlflow: given up" in warnings.text


def test_wandb_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_steps("wandb", tmp_path, range(1, 4))
    run_id = json.loads((tmp_path / "trackers.json").read_text())["wandb/mlm"]
    log_steps("wandb", tmp_path, range(4, 6))
    assert {path.name[-len(run_id) :] for path in (tmp_path / "wandb").glob("offline-run-*")} == {run_id}


def test_tensorboard_files_do_not_name_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ward-seven-pc")
    log_steps("tensorboard", tmp_path, range(1, 3))
    (file,) = (tmp_path / "tensorboard" / "mlm").iterdir()
    assert "ward-seven-pc" not in file.name and b"ward-seven-pc" not in file.read_bytes()


def test_mlflow_is_told_no_user_and_no_script(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    log_steps("mlflow", tmp_path, range(1, 3))
    run_id = json.loads((tmp_path / "trackers.json").read_text())["mlflow/mlm"]
    run = mlflow.MlflowClient((tmp_path / "mlruns").as_uri()).get_run(run_id)
    assert set(run.data.tags) == {"mlflow.runName"} and run.info.user_id in ("", "unknown")


def test_wandb_is_told_no_path_and_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_steps("wandb", tmp_path, range(1, 3))
    (sent,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    told = sent.read_bytes() + b"".join(path.read_bytes() for path in sent.parent.glob("files/*"))
    for secret in (str(tmp_path), sys.executable, str(Path.cwd()), "/home/dr-who"):
        assert secret.encode() not in told


def test_a_package_that_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers._MODULES, "mlflow", "no_such_package")
    with pytest.raises(ConfigError, match=r"pip install 'fewlabel\[mlflow\]'"):
        open_trackers(["mlflow"], tmp_path, "mlm", {})


def test_one_that_fails_later_is_given_up_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    calls = []

    def write(step: int, values: object) -> None:
        calls.append(step)
        raise ConnectionError("gone\nwith details")

    monkeypatch.setitem(trackers._OPENERS, "tensorboard", lambda *_: (write, lambda: calls.append(-1)))
    (tracker,) = open_trackers(["tensorboard"], tmp_path, "mlm", {})
    for step in (1, 2):
        tracker.log(step, {})
    tracker.close()
    assert calls == [1] and len(warnings.records) == 1 and "given up (gone)" in warnings.text
