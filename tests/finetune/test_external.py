"""Public models in a study: rows of their own, what the provenance says of them, and what is refused."""

import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from safetensors.torch import save_file

from tests.encoders.networks.examples import tiny_config, tiny_encoder
from tests.finetune.synthetic import scan_task, text_task
from toolkit.console import log
from toolkit.encoders.external import sample_ids
from toolkit.errors import CardError, ConfigError
from toolkit.finetune.baselines import Majority, Raw
from toolkit.finetune.external import External, external_methods
from toolkit.finetune.frozen import FrozenEncoder
from toolkit.finetune.samples import write_samples
from toolkit.finetune.study import StudyConfig, run_study
from toolkit.finetune.task import Task
from toolkit.reports.names import method_label
from toolkit.scans import Preprocessing

MODULE = """
import numpy as np


def sides(patches):
    halves = [np.moveaxis(patches[:, 0], axis, 1) for axis in (1, 2, 3)]
    return np.stack([half[:, :6].mean((1, 2, 3)) - half[:, 6:].mean((1, 2, 3)) for half in halves], axis=1)


def means(patches):
    return patches.reshape(len(patches), -1)[:, :3]


def images(slices):
    return np.concatenate([slices.mean(axis=(2, 3)), slices[:, 0].mean(axis=1)], axis=1)


def one_side(patches):
    half = np.moveaxis(patches[:, 0], 1 + int(open("axis.txt").read()), 1)
    return (half[:, :6].mean((1, 2, 3)) - half[:, 6:].mean((1, 2, 3)))[:, None]


def vowels(texts):
    return [[text.count(letter) for letter in "aeiou"] for text in texts]
"""
SMALL = StudyConfig(budgets=(2, 8), num_draws=2)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "public_model.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("public_model", None)


def study(models: dict[str, External], task: Task, folder: Path) -> pd.DataFrame:
    methods, _ = external_methods(models, Preprocessing() if task.leg == "scans" else None)
    run_study([task], [Majority(), Raw(), *methods], SMALL, folder)
    return pd.read_csv(folder / "summary.csv").query("metric == 'accuracy' and method == 'external'")


def test_two_public_models_are_two_rows_and_neither_is_a_baseline(tmp_path: Path) -> None:
    models = {name: External(function=f"public_model:{name}") for name in ("sides", "means")}
    rows = study(models, scan_task(), tmp_path / "study")
    assert sorted(rows["pretraining"].unique()) == ["means", "sides"] and len(rows) == 4
    assert rows["baseline"].isna().all()
    best = rows.query("budget == 8").set_index("pretraining")["mean"]
    assert best["sides"] > 0.95 > best["means"]
    comparisons = pd.read_csv(tmp_path / "study/comparisons.csv")
    assert "external" not in {*comparisons["method"], *comparisons["baseline"]}
    assert method_label("external", "scans", "sides") != method_label("external", "scans", "means")


def test_samples_go_out_and_their_embeddings_come_back_as_the_same_row(tmp_path: Path) -> None:
    """The same numbers, once by a function and once by way of files."""
    task = scan_task()
    write_samples([task], tmp_path / "samples")
    assert stat.S_IMODE((tmp_path / "samples").stat().st_mode) == 0o700
    ids = pq.read_table(tmp_path / "samples" / f"{task.key}.parquet")["id"].to_pylist()
    patches = np.load(tmp_path / "samples" / f"{task.key}.npy", mmap_mode="r")
    assert sample_ids(np.asarray(patches)) == ids and len(ids) == len(task.pool) + len(task.test)
    halves = [np.moveaxis(patches[:, 0], axis, 1) for axis in (1, 2, 3)]
    rows = np.stack([h[:, :6].mean((1, 2, 3)) - h[:, 6:].mean((1, 2, 3)) for h in halves], axis=1)
    pq.write_table(pa.table({"id": ids[::-1], "embedding": rows[::-1].tolist()}), tmp_path / "rows.parquet")
    models = {
        "stored": External(embeddings=tmp_path / "rows.parquet"),
        "sides": External(function="public_model:sides"),
    }
    scores = study(models, task, tmp_path / "study").set_index(["pretraining", "budget"])["mean"]
    assert scores["stored"].tolist() == scores["sides"].tolist()


def test_a_sample_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    task = text_task()
    write_samples([task], tmp_path / "samples")
    table = pq.read_table(tmp_path / "samples" / f"{task.key}.parquet").to_pydict()
    assert set(table["text"]) == {*task.pool, *task.test}
    assert table["id"] == sample_ids(table["text"]) and len(set(table["id"])) == len(table["id"])


def test_texts_have_public_models_too(tmp_path: Path) -> None:
    rows = study({"vowels": External(function="public_model:vowels")}, text_task(), tmp_path / "study")
    assert rows["mean"].notna().all()


def test_a_checkpoint_is_a_frozen_encoder_with_its_weights(tmp_path: Path) -> None:
    source = tiny_encoder("small_resnet", seed=3, patch_size=12)
    save_file({n: t.contiguous() for n, t in source.network.state_dict().items()}, tmp_path / "w.safetensors")
    init = {"path": tmp_path / "w.safetensors", "origin": "monai"}
    config = External(init=init, encoder=tiny_config("small_resnet", patch_size=12))
    (method,), record = external_methods({"bundle": config}, Preprocessing())
    assert method.name == "external" and method.pretraining == "bundle"
    assert method.fingerprint() == FrozenEncoder(source, "bundle").fingerprint()
    assert record["external bundle"].startswith("weights of monai sha256:")
    assert str(tmp_path) not in repr(record)


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_slices_are_pooled_by_attention_or_their_mean(pooling: str, tmp_path: Path) -> None:
    models = {"2d": External(slices="public_model:images", pooling=pooling)}
    rows = study(models, scan_task(), tmp_path / "study").set_index("budget")
    assert rows["mean"][8] > 0.6  # three classes; the images show two of the three axes


def test_the_pooling_is_part_of_a_rows_identity() -> None:
    methods = [
        external_methods({"2d": External(slices="public_model:images", **values)}, Preprocessing())[0][0]
        for values in ({}, {"pooling": "mean"}, {"max_slices": 3})
    ]
    assert len({method.fingerprint() for method in methods}) == 3


def test_what_a_model_saw_is_warned_of_and_recorded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "handlers", [])  # of commands that other tests ran
    models = {
        "nobody_knows": External(function="public_model:sides"),
        "told": External(function="public_model:sides", pretrained_on="our own archive"),
        "carded": External(function="public_model:sides", card="ct_fm"),
    }
    with caplog.at_level(logging.WARNING, logger="fewlabel"):
        _, record = external_methods(models, Preprocessing())
    assert "licence: unknown; pretrained on: unknown" in record["external nobody_knows"]
    assert "pretrained on: our own archive" in record["external told"]
    assert "licence: apache-2.0; pretrained on: 148,000 CT scans" in record["external carded"]
    warnings = [line for line in caplog.messages if "nothing can tell whether a test subject" in line]
    assert len(warnings) == 3 and "external.told: pretrained on: our own archive" in warnings[1]


def test_a_row_follows_the_files_that_its_function_reads(tmp_path: Path) -> None:
    models = {"one": External(function="public_model:one_side", weights=(Path("axis.txt"),))}
    scores = []
    for axis in "02":
        (tmp_path / "axis.txt").write_text(axis)
        scores.append(study(models, scan_task(), tmp_path / "study")["mean"].tolist())
    fresh = study(models, scan_task(), tmp_path / "fresh")["mean"].tolist()
    assert scores[0] != scores[1] == fresh


def test_a_function_whose_weights_are_not_named_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "handlers", [])
    with caplog.at_level(logging.WARNING, logger="fewlabel"):
        for name, values in {
            "silent": {"function": "public_model:means"},
            "none": {"function": "public_model:means", "weights": []},
            "slices": {"slices": "public_model:images"},
        }.items():
            external_methods({name: External(**values)}, Preprocessing())
        function = External(function="public_model:sides")
        external_methods({"own": function}, Preprocessing())
        sys.modules["public_model"].sides.digest = "revision 3"
        external_methods({"own": function}, Preprocessing())
    warned = [line.partition(":")[0] for line in caplog.messages if "its weights are not named" in line]
    assert warned == ["external.silent", "external.slices", "external.own"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of function, embeddings, init, slices, not none"),
        ({"function": "a:b", "slices": "a:c"}, "not function and slices"),
        ({"embeddings": "a.parquet", "weights": ["b.bin"]}, "weights: name what a function reads; embeddings"),
        ({"slices": "dinov2", "weights": ["b.bin"]}, "weights: name what a function reads; slices"),
    ],
)
def test_a_model_is_one_thing(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        External(**values)


def test_mistakes_name_the_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"external.mine: public_model:side: public_model has no function 'side'"):
        external_methods({"mine": External(function="public_model:side")}, Preprocessing())
    with pytest.raises(ConfigError, match=r"external.mine: init and slices are for scans"):
        external_methods({"mine": External(slices="public_model:images")}, None)
    with pytest.raises(CardError, match="did you mean 'ct_fm'"):
        external_methods({"mine": External(function="public_model:sides", card="ct_fn")}, Preprocessing())
