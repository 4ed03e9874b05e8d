"""The study: what it writes, that it resumes, and that neither workers nor test labels change its
predictions."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.finetune.synthetic import CONFIG, Informed, TinyEncoder, methods, scan_task, text_task
from toolkit.errors import ConfigError, DataError, DiskError
from toolkit.finetune.baselines import Majority, NearestPosition, Raw
from toolkit.finetune.results import COLUMNS, FILES, join_tables
from toolkit.finetune.study import StudyConfig, run_study
from toolkit.finetune.trained import FineTune, Scratch, TrainedConfig

FAST = TrainedConfig(min_steps=5, min_epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run_study([text_task(), scan_task()], methods(), CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def two_workers() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def _bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_results_have_a_row_for_each_measurement(finished: Path) -> None:
    results = pd.read_csv(finished / "results.csv")
    assert list(results.columns) == COLUMNS
    probes = results[results["method"] != "majority"]
    assert len(probes) == 2 * 4 * 2 * 4 * 3  # tasks, methods, budgets, draws, metrics
    assert not probes.duplicated(COLUMNS[:-1]).any()
    majority = results[results["method"] == "majority"]
    assert majority["budget"].isna().all() and len(majority) == 2 * 3
    chance = majority[majority["metric"] == "accuracy"].set_index("leg")["value"]
    assert chance["text"] == pytest.approx(1 / 2) and chance["scans"] == pytest.approx(1 / 3, abs=1e-5)


def test_the_method_with_signal_wins_and_saves_labels(finished: Path) -> None:
    summary = pd.read_csv(finished / "summary.csv")
    row = summary.query("leg == 'text' and method == 'ssl-probe' and budget == 2 and metric == 'accuracy'").iloc[0]
    assert row["num_draws"] == 4 and row["low"] < row["mean"] < row["high"]
    assert row["difference_low"] > 0 and row["p_value"] < 0.05
    assert row["baseline"] in ("raw", "pca", "kmeans")
    assert row["labels_equal"] > 2 and "2 labels do what" in row["labels_saved"]
    assert row["difference_subjects_low"] > 0  # 60 texts are enough to resample
    scans = summary.query("leg == 'scans' and method == 'ssl-probe' and metric == 'accuracy'")
    assert scans["subjects_low"].isna().all()  # one test subject is not
    baselines = summary[summary["method"] == "raw"]
    assert baselines["baseline"].isna().all() and baselines["labels_saved"].isna().all()
    comparisons = pd.read_csv(finished / "comparisons.csv")
    assert set(comparisons["baseline"]) == {"raw", "pca", "kmeans"}


def test_predictions_reproduce_the_results(finished: Path) -> None:
    predictions = pd.read_parquet(finished / "predictions.parquet")
    keys = ["leg", "method", "budget", "draw"]
    accuracy = (
        predictions.assign(right=predictions["label"] == predictions["prediction"])
        .groupby(keys, dropna=False)["right"].mean()
    )  # fmt: skip
    results = pd.read_csv(finished / "results.csv").query("metric == 'accuracy'").set_index(keys)["value"]
    assert np.allclose(accuracy.loc["text", "raw", 8, 1], results.loc["text", "raw", 8, 1], atol=1e-5)
    assert len(predictions) == (60 + 45) * (4 * 2 * 4 + 1)
    first = predictions.query("method == 'raw' and leg == 'scans'")["probabilities"].iloc[0]
    assert len(first) == 3 and sum(first) == pytest.approx(1, abs=1e-5)


def test_workers_change_nothing(finished: Path, tmp_path: Path, two_workers: ProcessPoolExecutor) -> None:
    run_study([text_task(), scan_task()], methods(), CONFIG, tmp_path, two_workers)
    assert _bytes(tmp_path) == _bytes(finished)


def test_networks_give_the_same_in_a_worker(tmp_path: Path, two_workers: ProcessPoolExecutor) -> None:
    trained = [Scratch(TinyEncoder(), FAST), FineTune(TinyEncoder(1), "simclr", FAST)]
    config = CONFIG.model_copy(update={"trained_draws": 1})
    run_study([scan_task()], trained, config, tmp_path / "here")
    run_study([scan_task()], trained, config, tmp_path / "there", two_workers)
    assert _bytes(tmp_path / "here") == _bytes(tmp_path / "there")
    results = pd.read_csv(tmp_path / "here" / "results.csv")
    assert set(zip(results["method"], results["budget"], results["draw"], strict=True)) == {
        ("scratch", 8, 0), ("ssl-finetune", 8, 0),
    }  # fmt: skip


def test_killed_in_the_middle_it_goes_on_to_the_same_tables(finished: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("synthetic.py")
    root = str(script.parents[2])
    process = subprocess.Popen([sys.executable, script, tmp_path], env=os.environ | {"PYTHONPATH": root})
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "cells").glob("[!.]*.npy")) if (tmp_path / "cells").exists() else []) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "results.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("[!.]*.npy")}
    run_study([text_task(), scan_task()], methods(), CONFIG, tmp_path)
    assert _bytes(tmp_path) == _bytes(finished)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())  # not computed again


def test_test_labels_reach_no_prediction(finished: Path, tmp_path: Path) -> None:
    tasks = [replace(task, test_labels=task.test_labels[::-1].copy()) for task in (text_task(), scan_task())]
    with_labels = [method for method in methods() if not isinstance(method, Informed)]
    run_study(tasks, with_labels, CONFIG, tmp_path)
    columns = ["leg", "method", "budget", "draw", "item", "prediction"]
    ours, theirs = (pd.read_parquet(folder / "predictions.parquet") for folder in (tmp_path, finished))
    theirs = theirs[theirs["method"] != "ssl-probe"].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours[columns], theirs[columns])
    assert np.array_equal(np.stack(ours["probabilities"].iloc[-45:]), np.stack(theirs["probabilities"].iloc[-45:]))
    assert not ours["label"].equals(theirs["label"])


def test_more_draws_keep_those_there_are(tmp_path: Path) -> None:
    less = StudyConfig(budgets=(2,), num_draws=2)
    run_study([text_task()], [Raw()], less, tmp_path)
    first = pd.read_csv(tmp_path / "results.csv")
    kept = {path.name for path in (tmp_path / "cells").iterdir()}
    run_study([text_task()], [Raw()], less.model_copy(update={"num_draws": 3}), tmp_path)
    assert kept < {path.name for path in (tmp_path / "cells").iterdir()}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results.csv").query("draw < 2"), first)


def test_a_changed_method_is_computed_anew_and_stale_cells_go(tmp_path: Path) -> None:
    config = StudyConfig(budgets=(2,), num_draws=2)
    run_study([text_task()], [Informed(0.3)], config, tmp_path)
    before = {path.name for path in (tmp_path / "cells").iterdir()}
    run_study([text_task()], [Informed(3.0)], config, tmp_path)
    after = {path.name for path in (tmp_path / "cells").iterdir()}
    assert len(before) == len(after) == 2 and not before & after


def test_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study.methods: no method named 'rawr'; did you mean 'raw'\?"):
        run_study([text_task()], [Raw()], StudyConfig(methods=("rawr",)), tmp_path)
    with pytest.raises(DataError, match="smallest class has 40"):
        run_study([text_task()], [Raw()], StudyConfig(budgets=(64,)), tmp_path)
    with pytest.raises(DataError, match="in the pretraining data"):
        replace(text_task(), test_groups=np.arange(60))
    with pytest.raises(DataError, match="unlabelled data is empty"):
        replace(text_task(), unlabelled=[])


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toolkit.finetune.cells.write_atomically", full)
    with pytest.raises(DiskError, match="No space left on device; free some space"):
        run_study([text_task()], [Majority()], CONFIG, tmp_path)


def test_budgets_beyond_a_pool_are_left_out(tmp_path: Path) -> None:
    results = run_study([text_task()], [Raw()], StudyConfig(budgets=(2, 500), num_draws=1), tmp_path)
    assert set(results["budget"]) == {2}


def test_legs_are_joined(finished: Path, tmp_path: Path) -> None:
    run_study([scan_task()], [NearestPosition()], CONFIG, tmp_path / "scans")
    join_tables([finished, tmp_path / "scans"], tmp_path)
    joined, *parts = (
        pd.read_csv(folder / "results.csv", dtype=str, keep_default_na=False)
        for folder in (tmp_path, finished, tmp_path / "scans")
    )
    pd.testing.assert_frame_equal(joined, pd.concat(parts, ignore_index=True))
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == sum(
        len(pd.read_parquet(folder / "predictions.parquet")) for folder in (finished, tmp_path / "scans")
    )
    assert set(parts[1].query("metric == 'accuracy'")["value"]) == {"1.0"}


def test_a_long_name_of_a_site_fits_a_file_name(tmp_path: Path) -> None:
    run_study([replace(text_task(), site="+".join(["subject"] * 60))], [Majority()], CONFIG, tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 1
