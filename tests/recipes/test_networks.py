"""Each network through `fewlabel run scan_pretrain`, and back through `load_encoder`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tests.encoders.networks.examples import TINY, tiny_config
from tests.recipes.conftest import Command
from tests.recipes.test_bad_input import assert_one_line
from toolkit import load_encoder
from toolkit.encoders.networks import NETWORKS

CONFIG = """
num_threads: 1
cards: [heads]
preprocessing: {spacing_mm: [4, 4, 4]}
objective: {name: simclr, hidden_dim: 8, projection_dim: 4}
training: {num_steps: 3, batch_size: 4, log_every: 1}
"""


@pytest.mark.parametrize("name", list(NETWORKS))
def test_each_network_trains_and_opens(name: str, fewlabel: Command, working_folder: Path) -> None:
    if name == "resenc_unet" and not importlib.util.find_spec("dynamic_network_architectures"):
        pytest.skip("dynamic_network_architectures is not installed")
    (working_folder / "network.yaml").write_text(CONFIG)
    side = tiny_config(name).sides[0]
    encoder = json.dumps({"name": name} | TINY[name])  # JSON is YAML
    folder = working_folder / f"runs/network-{name}"
    values = (f"encoder={encoder}", f"views.patch_size={side}", f"output={folder}")
    outcome = fewlabel("run", "scan_pretrain", "--config", "network.yaml", *values)
    assert outcome.exit_code == 0, outcome.stderr
    losses = [json.loads(line).get("loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([loss for loss in losses if loss is not None]).sum() >= 3
    opened = load_encoder(folder / "encoder")
    assert opened.config == tiny_config(name)
    assert opened.embed(np.random.default_rng([0]).random((2, 1, side, side, side))).shape == (2, opened.embed_dim)
    assert f"3D network, {name}" in (folder / "README.md").read_text()


def test_thick_slices_train_and_embed_as_whole_scans(fewlabel: Command, working_folder: Path) -> None:
    (working_folder / "network.yaml").write_text(CONFIG)
    folder = working_folder / "runs/network-thick"
    shape = {"name": "resnet", "width": 4, "depth": 10, "voxel_mm": [4, 4, 20], "patch_size": [24, 24, 8]}
    values = (f"encoder={json.dumps(shape)}", "preprocessing.spacing_mm=[4, 4, 20]", f"output={folder}")
    outcome = fewlabel("run", "scan_pretrain", "--config", "network.yaml", *values)
    assert outcome.exit_code == 0, outcome.stderr
    opened = load_encoder(folder / "encoder")
    assert opened.stride == (32, 32, 8) and opened.network.conv1.weight.shape[2:] == (7, 7, 1)
    scans = sorted((working_folder / "heads").glob("*_*.nii.gz"))
    assert opened.embed(scans).shape == (3, 32)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["encoder.name=vitt"], ["encoder.name: no 'vitt'; did you mean 'vit'"]),
        (["encoder={name: vit, widht: 3}"], ["encoder.widht: unknown key"]),
        (["encoder={name: vit, hidden_size: 20}"], ["encoder", "hidden_size: 20 is no multiple of 6"]),
        (
            ["encoder={name: resnet, patch_size: 16}"],
            ["encoder", "patch_size 16 does not fit: resnet takes", "from 17"],
        ),
        (
            ["encoder={name: vit}", "views.patch_size=20"],
            ["views.patch_size: 20", "sides from 8 in multiples of 8"],
        ),
        (["encoder={name: densenet}"], ["views.patch_size: 24", "densenet takes sides from 29"]),
        (["encoder={voxel_mm: [1, 1, 5]}"], ["encoder.voxel_mm: (1.0, 1.0, 5.0)", "preprocessing.spacing_mm: (4.0"]),
        (["encoder={pooled_stages: [5]}"], ["pooled_stages: no stage 5; small_resnet has 1 to 4"]),
    ],
)
def test_a_network_that_cannot_work_is_one_line(
    overrides: list[str], parts: list[str], fewlabel: Command, working_folder: Path
) -> None:
    (working_folder / "network.yaml").write_text(CONFIG)
    outcome = fewlabel("run", "scan_pretrain", "--config", "network.yaml", "output=runs/refused", *overrides)
    assert_one_line(outcome, 2, *parts)
    assert not (working_folder / "runs/refused").exists()
