"""Weights that a pretraining starts from, and public models in a study, by the command."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file

from tests.encoders.networks.examples import tiny_encoder
from tests.recipes.conftest import Command
from tests.recipes.made_up import TEST_SUBJECT
from tests.recipes.test_bad_input import assert_one_line
from toolkit.encoders import load_encoder
from toolkit.splits import Seen, record_seen

PRETRAIN = """
cards: [heads]
preprocessing: {spacing_mm: [4, 4, 4]}
encoder: {width: 4, patch_size: 8}
views: {patch_size: 8, shift_voxels: 1}
objective: {name: simclr, hidden_dim: 16, projection_dim: 8}
training: {num_steps: 1, batch_size: 8, log_every: 1, lr: 1.0e-12}
num_threads: 1
"""
STUDY = """
cards: [heads]
task: lobes
atlas: {patch_size: 8, pool_per_class: 12, test_per_class: 6, num_unlabelled: 20}
study: {budgets: [2], num_draws: 2, trained_budgets: [], methods: [majority, raw, ssl-probe, external]}
num_threads: 1
"""
MODULE = """
def blocks(patches):
    return patches.reshape(len(patches), -1)[:, ::17]
"""


@pytest.fixture(scope="module")
def started(working_folder: Path, fewlabel: Command) -> Iterator[Path]:
    """A folder with `pretrain.yaml`, `study.yaml`, weights, and a run that started from them."""
    folder = working_folder / "external"
    folder.mkdir()
    source = tiny_encoder("small_resnet", seed=5, patch_size=8).network
    save_file(
        {name: tensor.contiguous() for name, tensor in source.state_dict().items()}, folder / "Secret.safetensors"
    )
    (folder / "pretrain.yaml").write_text(f"output: {folder / 'run'}\n{PRETRAIN}", encoding="utf-8")
    (folder / "study.yaml").write_text(
        f"output: {folder / 'study'}\nencoder: {folder / 'run/encoder'}\n{STUDY}", encoding="utf-8"
    )
    (working_folder / "my_public_model.py").write_text(MODULE, encoding="utf-8")
    init = [f"init.path={folder / 'Secret.safetensors'}", "init.origin=monai"]
    outcome = fewlabel("run", "scan_pretrain", "--config", str(folder / "pretrain.yaml"), *init)
    assert outcome.exit_code == 0, outcome.stderr
    yield folder
    (working_folder / "my_public_model.py").unlink()
    sys.modules.pop("my_public_model", None)


def test_a_pretraining_starts_from_the_weights(started: Path) -> None:
    ours = load_encoder(started / "run/encoder").network.state_dict()
    theirs = tiny_encoder("small_resnet", seed=5, patch_size=8).network.state_dict()
    assert all((ours[name] - theirs[name]).abs().max() < 1e-6 for name in ours if name.endswith("conv1.weight"))


def test_the_provenance_holds_the_files_digest_and_the_encoder_no_path(started: Path) -> None:
    provenance = json.loads((started / "run/provenance.json").read_text())
    assert provenance["data"]["init"].startswith("monai sha256:")
    for path in (started / "run/encoder").iterdir():
        assert b"Secret" not in path.read_bytes()
    card = (started / "run/README.md").read_text()
    assert "It started from weights of monai sha256:" in card and "external/Secret" not in card


def test_a_study_of_it_warns_that_nobody_knows_what_the_weights_saw(
    started: Path, fewlabel: Command, without_workers: None
) -> None:
    models = "external={madeup: {function: 'my_public_model:blocks', card: ct_fm}}"
    outcome = fewlabel("run", "label_efficiency", "--config", str(started / "study.yaml"), models)
    assert outcome.exit_code == 0, outcome.stderr
    assert "started from weights of monai sha256:" in outcome.stderr
    assert "external.madeup: pretrained on: 148,000 CT scans" in outcome.stderr
    summary = pd.read_csv(started / "study/summary.csv")
    assert set(summary.query("method == 'external'")["pretraining"]) == {"madeup"}
    assert "function my_public_model:blocks" in (started / "study/provenance.json").read_text()
    assert "madeup" in (started / "study/report.html").read_text()


def test_samples_are_written_and_the_study_is_not_run(started: Path, fewlabel: Command, tmp_path: Path) -> None:
    arguments = [f"write_samples={tmp_path / 'samples'}", f"output={tmp_path / 'study'}"]
    outcome = fewlabel("run", "label_efficiency", "--config", str(started / "study.yaml"), *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    assert sorted(path.suffix for path in (tmp_path / "samples").iterdir()) == [".npy", ".parquet"]
    assert not (tmp_path / "study/results.csv").exists()


def test_what_an_encoder_started_from_was_seen_by_it(started: Path, fewlabel: Command, tmp_path: Path) -> None:
    init = [f"init.path={started / 'run/encoder'}", "init.origin=fewlabel", f"output={tmp_path / 'again'}"]
    outcome = fewlabel("run", "scan_pretrain", "--config", str(started / "pretrain.yaml"), *init)
    assert outcome.exit_code == 0, outcome.stderr
    first, second = (
        json.loads((run / "encoder/pretrained_on.json").read_text()) for run in (started / "run", tmp_path / "again")
    )
    assert second["unknown"] == first["unknown"] and second["subjects"] == first["subjects"]


def test_a_start_from_an_encoder_that_saw_the_test_or_does_not_say_what_it_saw(
    started: Path, fewlabel: Command, tmp_path: Path
) -> None:
    """As a tested encoder and a reference line are; and what is allowed here is refused again by the study."""
    saw, run = tmp_path / "saw", tmp_path / "run"
    shutil.copytree(started / "run/encoder", saw)
    arguments = ["run", "scan_pretrain", "--config", str(started / "pretrain.yaml"), f"output={run}"]
    arguments += [f"init.path={saw}", "init.origin=fewlabel"]
    record_seen(saw, Seen([TEST_SUBJECT], ["x"], [""], public=True))
    assert_one_line(fewlabel(*arguments), 1, "init.path: 1 test subject(s)", TEST_SUBJECT)
    (saw / "pretrained_on.json").unlink()
    assert_one_line(fewlabel(*arguments), 1, "init.path: ", "no pretrained_on.json", "allow_held_out")
    assert not run.exists()
    allowed = fewlabel(*arguments, "allow_held_out=true")
    assert allowed.exit_code == 0, allowed.stderr
    assert "is an encoder without a record: nothing can tell" in allowed.stderr
    study = ["run", "label_efficiency", "--config", str(started / "study.yaml"), f"encoder={run / 'encoder'}"]
    outcome = fewlabel(*study, f"output={tmp_path / 'study'}")
    assert_one_line(outcome, 1, "started from an encoder without a record", "allow_seen")


def test_an_encoder_of_ours_is_no_reference_where_it_saw_the_test(
    started: Path, fewlabel: Command, tmp_path: Path
) -> None:
    saw = tmp_path / "saw"
    shutil.copytree(started / "run/encoder", saw)
    record_seen(saw, Seen([TEST_SUBJECT], ["x"], [""], public=True))
    network = "{name: small_resnet, width: 4, patch_size: 8}"
    models = f"external={{ours: {{encoder: {network}, init: {{path: {saw}, origin: fewlabel}}}}}}"
    arguments = [
        "run",
        "label_efficiency",
        "--config",
        str(started / "study.yaml"),
        f"output={tmp_path / 'study'}",
        models,
    ]
    assert_one_line(fewlabel(*arguments), 1, "also in the pretraining data")


def test_weights_that_do_not_fit_end_a_run_before_it_begins(started: Path, fewlabel: Command, tmp_path: Path) -> None:
    arguments = ["run", "scan_pretrain", "--config", str(started / "pretrain.yaml"), f"output={tmp_path / 'run'}"]
    init = [f"init.path={started / 'Secret.safetensors'}", "init.origin=monai"]
    assert_one_line(fewlabel(*arguments, *init, "encoder.width=8"), 1, "of another shape (bn1.bias, ")
    assert_one_line(fewlabel(*arguments, "init.path=none.pth", "init.origin=nnssl"), 2, "weights for resenc_unet")
    assert not (tmp_path / "run").exists()
    assert_one_line(
        fewlabel("run", "label_efficiency", "--config", str(started / "study.yaml"), "encoder=my_public_model:blocks"),
        2,
        "is not one that fewlabel saved; name it under external",
    )
