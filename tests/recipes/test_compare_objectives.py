"""The comparison on made-up heads: what it leaves, what it refuses, and that cutting it off changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.recipes.conftest import Command
from tests.recipes.made_up import TEST_SUBJECT
from tests.recipes.test_bad_input import assert_one_line
from tests.recipes.test_domain import KILLED
from toolkit.finetune.cells import InProcess

CONFIG = """
output: runs/compared
num_threads: 1
trackers: []
pretrain:
  cards: [heads]
  preprocessing: {spacing_mm: [4, 4, 4]}
  views: {patch_size: 8, shift_voxels: 1}
groups:
  cnn:
    encoder: {name: small_resnet, patch_size: 8, width: 4}
    objectives:
      - {name: simclr, hidden_dim: 16, projection_dim: 8}
      - {name: vicreg, hidden_dim: 16, projection_dim: 8}
    training: {num_steps: 4, batch_size: 8, log_every: 1, checkpoint_every: 2}
    lr: {vicreg: 5e-4}
  vit:
    encoder: {name: vit, patch_size: 8, token_side: 4, hidden_size: 12, num_layers: 1, num_heads: 2}
    objectives: [{name: simclr, hidden_dim: 16, projection_dim: 8}]
    training: {num_steps: 4, batch_size: 8, log_every: 1, checkpoint_every: 2}
study:
  task: lobes
  atlas: {patch_size: 8, pool_per_class: 30, test_per_class: 15, num_unlabelled: 60}
  study: {budgets: [2, 4], num_draws: 3, trained_budgets: [], methods: [raw, pca, random, ssl-probe, external]}
  external: {blocks: {function: "compared_model:blocks", weights: []}}
"""
MODEL = """
def blocks(patches):
    return patches.reshape(len(patches), -1)[:, ::17]
"""
TABLES = ("ranking.csv", "results.csv", "summary.csv", "comparisons.csv", "predictions.parquet")
pytestmark = pytest.mark.usefixtures("without_workers")


@pytest.fixture(scope="module")
def command(working_folder: Path, fewlabel: Command) -> tuple[str, ...]:
    """Its first words; an output of its own goes behind them."""
    (working_folder / "compare.yaml").write_text(CONFIG, encoding="utf-8")
    (working_folder / "compared_model.py").write_text(MODEL, encoding="utf-8")
    return ("run", "compare_objectives", "--config", "compare.yaml")


@pytest.fixture(scope="module")
def compared(working_folder: Path, fewlabel: Command, command: tuple[str, ...]) -> Path:
    """The folder of a run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.finetune.jobs.ProcessPoolExecutor", lambda *_, **__: InProcess())
        outcome = fewlabel(*command)
    assert outcome.exit_code == 0, outcome.stderr
    return working_folder / "runs/compared"


def test_every_method_is_ranked_in_its_group_beside_the_baselines(compared: Path) -> None:
    ranking = pd.read_csv(compared / "ranking.csv")
    groups = {task: set(part["pretraining"]) for task, part in ranking.groupby("task")}
    assert groups == {"lobes, cnn": {"simclr", "vicreg", "blocks", "none"}, "lobes, vit": {"simclr", "blocks", "none"}}
    cnn = ranking[ranking["task"] == "lobes, cnn"]
    assert sorted(cnn["place"].dropna()) == [1, 2]
    assert set(cnn["method"]) == {"ssl-probe", "raw", "pca", "random", "external"}
    assert cnn["score"].is_monotonic_decreasing and (cnn["low"] < cnn["score"]).all()
    assert set(ranking["site"]) == {TEST_SUBJECT}
    pretrained = ranking["method"] == "ssl-probe"
    assert (ranking.loc[pretrained, ["seconds", "memory_gb"]] > 0).all(axis=None)
    assert ranking.loc[~pretrained, "seconds"].isna().all()
    page, text = (compared / "report.html").read_text(encoding="utf-8"), (compared / "ranking.md").read_text()
    public = ranking[ranking["method"] == "external"]
    assert public["place"].isna().all() and public["behind_low"].notna().all()
    for name in ("1. SimCLR probe", "VICReg probe", "block means", "blocks", "no place"):
        assert name in page and name in text
    results = pd.read_csv(compared / "results.csv")
    assert set(TABLES) <= {path.name for path in compared.iterdir()}
    assert len(results) == (2 + 1 + 2 * 4) * 2 * 3 * 3  # methods of both groups, budgets, draws, metrics


def test_methods_of_a_group_differ_in_what_the_configuration_says_alone(compared: Path) -> None:
    rows = {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (compared / "cnn").glob("*/metrics.jsonl")
    }
    assert [row["lr"] * 2 for row in rows["vicreg"]] == pytest.approx([row["lr"] for row in rows["simclr"]])
    assert [row["step"] for row in rows["vicreg"]] == [row["step"] for row in rows["simclr"]] == [1, 2, 3, 4]


def test_a_second_run_reuses_everything(compared: Path, fewlabel: Command, command: tuple[str, ...]) -> None:
    def work() -> dict[Path, int]:
        kept = [*compared.rglob("encoder/*"), *compared.rglob("cells/*"), *compared.rglob("checkpoints/*")]
        return {path: path.stat().st_mtime_ns for path in kept}

    before, tables = work(), {name: (compared / name).read_bytes() for name in TABLES}
    assert fewlabel(*command).exit_code == 0
    assert work() == before and len(before) > 20
    assert {name: (compared / name).read_bytes() for name in TABLES} == tables


def test_what_was_pretrained_with_other_values_is_not_compared(
    compared: Path, working_folder: Path, fewlabel: Command, command: tuple[str, ...]
) -> None:
    """Cut off after the first method, when nothing but that method's folder holds the old values."""
    kept = working_folder / "runs/cut_off/cnn/simclr"
    shutil.copytree(compared / "cnn/simclr", kept)
    outcome = fewlabel(*command, "output=runs/cut_off", "groups.cnn.training.num_steps=6")
    assert_one_line(outcome, 1, "cnn/simclr", "training.num_steps: 4, now 6", "--force")
    assert not (working_folder / "runs/cut_off/cnn/vicreg").exists()


def test_a_method_that_breaks_is_listed_with_the_reason(
    working_folder: Path, fewlabel: Command, command: tuple[str, ...]
) -> None:
    outcome = fewlabel(*command, "output=runs/broken", "groups.cnn.lr={vicreg: 1e30}")
    assert outcome.exit_code == 0, outcome.stderr
    ranking = pd.read_csv(working_folder / "runs/broken/ranking.csv")
    row = ranking[ranking["pretraining"] == "vicreg"].iloc[0]
    assert np.isnan(row["score"]) and "the loss is not finite at step" in row["note"]
    assert "the loss is not finite" in (working_folder / "runs/broken/ranking.md").read_text()


@pytest.mark.parametrize(
    ("override", "code", "parts"),
    [
        ("groups.cnn.lr={vicrge: 1}", 2, ["groups.cnn.lr.vicrge: no such method", "did you mean 'vicreg'"]),
        ("groups.cnn.lr={byol: 1e-3}", 2, ["groups.cnn.lr.byol: no such method in this group", "simclr, vicreg"]),
        ("groups.vit.lr={vicreg: 1e-3}", 2, ["groups.vit.lr.vicreg: no such method in this group", "simclr"]),
        ("pretrain.cards=[]", 2, ["cards"]),
        ("plan=true", 2, ["plan"]),
        ("groups.cnn.training.micro_batch_size=4", 2, ["training.micro_batch_size", "batch norms"]),
        ("groups.cnn.objectives=[{name: simclr}, {name: simclr}]", 2, ["groups.cnn", "simclr comes more than once"]),
        ("study.atlas.patch_size=10", 2, ["study.atlas.patch_size: 10", "groups.vit", "multiples of 4"]),
        ("pretrain.views.patch_size=10", 2, ["groups.vit.simclr: views.patch_size: 10 does not fit", "multiples of 4"]),
        ("groups.cnn.objectives=[{name: mae}]", 2, ["groups.cnn.mae: objective.name: mae cannot train a cnn"]),
        ("study.external={ours: {function: 'no_such_module:embed'}}", 2, ["external.ours", "no_such_module"]),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_training(
    override: str, code: int, parts: list[str], working_folder: Path, fewlabel: Command, command: tuple[str, ...]
) -> None:
    outcome = fewlabel(*command, "output=runs/refused", override)
    assert_one_line(outcome, code, *parts)
    assert not (working_folder / "runs/refused").exists()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("groups.cnn.lr={byol: 1e-3}", "groups.cnn.lr.byol"),
        ("pretrain.cards=[]", "cards"),
        ("study.atlas.patch_size=10", "groups.vit: study.atlas.patch_size: 10"),
        ("pretrain.views.patch_size=10", "groups.vit.simclr: views.patch_size: 10"),
        ("groups.cnn.objectives=[{name: mae}]", "groups.cnn.mae: objective.name"),
    ],
)
def test_a_dry_run_knows_it_too(override: str, part: str, fewlabel: Command, command: tuple[str, ...]) -> None:
    assert_one_line(fewlabel(*command, override, "--dry-run"), 2, part)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["vicreg/checkpoints/step-00000002", "cnn/study/results.csv", "report.html"])
def test_a_killed_run_ends_as_if_nothing_had_been(
    moment: str, compared: Path, working_folder: Path, fewlabel: Command, command: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = (*command, f"output={tmp_path / 'killed'}")
    here = "import toolkit.finetune.jobs as jobs\nfrom toolkit.finetune.cells import InProcess\n"
    code = KILLED.replace("main()\n", f"{here}jobs.ProcessPoolExecutor = lambda *_, **__: InProcess()\nmain()\n")
    environment = os.environ | {"FEWLABEL_DATA": str(working_folder / "cache")}
    killed = subprocess.run(
        [sys.executable, "-c", code, moment, *arguments], cwd=working_folder, env=environment, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr.decode()
    outcome = fewlabel(*arguments)
    assert outcome.exit_code == 0, outcome.stderr
    for name in TABLES[1:]:
        assert (tmp_path / "killed" / name).read_bytes() == (compared / name).read_bytes()


@pytest.mark.slow
def test_processes_of_their_own_change_no_score(
    compared: Path, working_folder: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    """As users run it."""
    code = "import sys; from toolkit.cli import main; sys.argv = ['fewlabel', *sys.argv[1:]]; main()"
    environment = os.environ | {"FEWLABEL_DATA": str(working_folder / "cache")}
    arguments = [sys.executable, "-c", code, *command, f"output={tmp_path / 'run'}"]
    done = subprocess.run(arguments, cwd=working_folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in TABLES[1:]:
        assert (tmp_path / "run" / name).read_bytes() == (compared / name).read_bytes()
