"""What is wrong with scans, batches and encoders is one line, before the first step where it can be known."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.recipes.conftest import Command
from tests.recipes.made_up import PATIENT
from tests.recipes.test_bad_input import assert_one_line
from toolkit.scans.manifest import content_hash

CONFIG = """
preprocessing: {spacing_mm: [4, 4, 4]}
encoder: {name: small_resnet, patch_size: 8, width: 4}
views: {patch_size: 8, shift_voxels: 1}
objective: {name: simclr, hidden_dim: 16, projection_dim: 8}
training: {num_steps: 2, batch_size: 4, log_every: 1}
num_threads: 1
trackers: []
"""


@pytest.fixture(scope="module")
def on_cards(working_folder: Path) -> tuple[str, ...]:
    """Pretraining on the made-up heads' card."""
    (working_folder / "bad_cards.yaml").write_text(f"output: runs/bad\ncards: [heads]\n{CONFIG}", encoding="utf-8")
    return ("run", "scan_pretrain", "--config", "bad_cards.yaml")


VIT = "encoder={name: vit, patch_size: 8, token_side: 4, hidden_size: 12, num_layers: 1, num_heads: 2}"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["training.batch_size=1"], ["training.batch_size", "> 1"]),
        (["training.micro_batch_size=1"], ["training.micro_batch_size", "> 1"]),
        (["training.num_tokens=9"], ["training.num_tokens: scans have no tokens"]),
        (
            ["training.keep_best={metric: knn_accuracy}"],
            ["training: keep_best.metric: knn_accuracy needs evaluate_every"],
        ),
        (["views.patch_size=6"], ["views.patch_size: 6 does not fit", "sides from 8"]),
        (["encoder.patch_size=4"], ["encoder", "4", "sides from 8"]),
        (["encoder={name: vit, token_side: 6}"], ["views.patch_size", "multiples of 6"]),
        (["encoder.name=small_rsnet"], ["encoder.name", "'small_resnet'"]),
        (
            ["encoder={voxel_mm: [1, 1, 5]}", "views.patch_size=24"],
            ["encoder.voxel_mm: (1.0, 1.0, 5.0)", "preprocessing.spacing_mm: (4.0"],
        ),
        (["objective={name: mae}"], ["objective.name: mae cannot train a cnn", "set encoder.name: vit"]),
        (["objective={name: spark}", VIT], ["objective.name: spark cannot train a vit", "set encoder.name"]),
        (["init={path: a.pth, origin: nnssl}"], ["init.origin: nnssl has weights for resenc_unet"]),
        (["cards=[]"], ["give either manifest", "or cards"]),
        (["manifest=manifest.csv"], ["give either manifest", "or cards"]),
        (["label_maps=maps.csv"], ["label_maps", "or give manifest, not cards"]),
        (["crops.points=points.csv"], ["crops.points", "or give manifest, not cards"]),
        (["sampler.balance=site"], ["sampler.balance", "or give manifest, not cards"]),
        (["pairs=same_subject"], ["pairs.name: same_subject needs the sessions of a manifest"]),
    ],
)
def test_what_the_configuration_shows_is_refused_by_a_run_and_a_dry_run_alike(
    overrides: list[str], parts: list[str], working_folder: Path, fewlabel: Command, on_cards: tuple[str, ...]
) -> None:
    said = []
    for flags in ([], ["--dry-run"]):
        outcome = fewlabel(*on_cards, *overrides, *flags)
        assert_one_line(outcome, 2, *parts)
        said.append(outcome.stderr)
    assert said[0] == said[1]
    assert not (working_folder / "runs/bad").exists()


def test_channels_that_the_scans_do_not_have(
    working_folder: Path, fewlabel: Command, on_cards: tuple[str, ...]
) -> None:
    assert_one_line(fewlabel(*on_cards, "encoder.in_channels=2"), 2, "encoder.in_channels: 2", "1 channel(s)")
    assert not (working_folder / "runs/bad").exists()


@pytest.fixture
def manifest(working_folder: Path, tmp_path: Path) -> Path:
    """Two heads of the working folder; tests put another third beside them."""
    rows = []
    for number in (1, 2):
        path = working_folder / f"heads/{PATIENT}_{number}.nii.gz"
        rows.append({"path": str(path), "subject": f"s{number}", "content_hash": content_hash([path]), "label": ""})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "own.yaml").write_text(f"output: run\nmanifest: {tmp_path / 'manifest.csv'}\n{CONFIG}")
    return tmp_path / "manifest.csv"


def with_third(manifest: Path, array: np.ndarray, subject: str = "s3") -> None:
    path = manifest.parent / "third.nii.gz"
    nib.save(nib.Nifti1Image(array, np.diag([4.0, 4.0, 4.0, 1.0])), path)
    row = {"path": str(path), "subject": subject, "content_hash": content_hash([path]), "label": ""}
    pd.concat([pd.read_csv(manifest, dtype=str), pd.DataFrame([row])]).to_csv(manifest, index=False)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(100, 900, shape).astype(np.float32)


HALF_NAN = np.where(noise(20, 20, 20) > 500, np.nan, noise(20, 20, 20)).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((20, 20, 20), 700, np.float32), "one intensity only (700)"),
        (HALF_NAN, "not finite"),
        (noise(20, 20, 20, 2), "2 channels where 1 are wanted"),
    ],
    ids=["constant", "nan", "channels"],
)
def test_a_scan_that_cannot_be_used_is_named_by_its_row(
    array: np.ndarray, reason: str, manifest: Path, fewlabel: Command
) -> None:
    """The log names the row; why stands in the private folder."""
    with_third(manifest, array)
    outcome = fewlabel(
        "run", "scan_pretrain", "--config", str(manifest.parent / "own.yaml"), f"output={manifest.parent / 'run'}"
    )
    assert_one_line(outcome, 1, "1 of its scans cannot be used (row 3)", "build_refused.csv")
    assert reason in (manifest.parent / "build_refused.csv").read_text(encoding="utf-8")
    assert not (manifest.parent / "run").exists()


def test_a_look_needs_labels(manifest: Path, fewlabel: Command) -> None:
    command = [
        "run",
        "scan_pretrain",
        "--config",
        str(manifest.parent / "own.yaml"),
        f"output={manifest.parent / 'run'}",
    ]
    outcome = fewlabel(*command, "training.evaluate_every=1")
    assert_one_line(outcome, 1, "training.evaluate_every", "--link", "leave it empty")
    assert not (manifest.parent / "store").exists() and not (manifest.parent / "run").exists()


def test_a_look_at_a_manifests_labels_and_the_best_encoder(manifest: Path, fewlabel: Command) -> None:
    with_third(manifest, noise(40, 40, 40))
    rows = pd.read_csv(manifest, dtype=str)
    more = rows.assign(subject=["s4", "s5", "s6"])
    pd.concat([rows, more]).assign(label=["head", "", "noise", "head", "head", "noise"]).to_csv(manifest, index=False)
    folder = manifest.parent / "run"
    command = ["run", "scan_pretrain", "--config", str(manifest.parent / "own.yaml"), f"output={folder}"]
    command += ["training.evaluate_every=1", "training.keep_best={metric: knn_accuracy}"]
    outcome = fewlabel(*command)
    assert outcome.exit_code == 0, outcome.stderr
    metrics = pd.read_json(folder / "metrics.jsonl", lines=True)
    assert metrics["knn_accuracy"].between(0, 1).all() and len(metrics) == 2
    step = metrics["step"][metrics["knn_accuracy"].idxmax()]
    assert (
        f"Its weights are those after step {step}, where knn_accuracy was best." in (folder / "README.md").read_text()
    )
    assert PATIENT not in outcome.output
