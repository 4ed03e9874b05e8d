"""The scan encoder: save and load, what is refused, and what `embed` normalises."""

import json
import os
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from toolkit import load_encoder
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import CheckpointError, DataError
from toolkit.scans import Preprocessing, Volume, preprocess
from toolkit.training.sync_batch_norm import batch_dependent_layers


@pytest.fixture
def encoder() -> ScanEncoder:
    torch.manual_seed(0)
    built = ScanEncoder(ScanEncoderConfig(width=4, pooled_stages=(3, 4)), Preprocessing(intensity_percentiles=(2, 98)))
    with torch.no_grad():  # statistics of a trained network: a fresh one's are 0 and 1
        built.train()
        built(torch.rand(8, 1, 24, 24, 24))
    return built.eval()


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng([1]).random((5, 1, 24, 24, 24)).astype(np.float32)


def test_embeddings_are_the_pooled_features(encoder: ScanEncoder, patches: np.ndarray) -> None:
    features = encoder(torch.from_numpy(patches))
    assert [tuple(f.shape[1:]) for f in features] == [
        (4, 8, 8, 8),
        (8, 4, 4, 4),
        (16, 2, 2, 2),
        (32, 1, 1, 1),
    ]
    pooled = encoder.pooled(features).detach().numpy()
    assert pooled.shape == (5, encoder.embed_dim) == (5, 48)
    embedded = encoder.embed(patches, intensity=(0, 1), batch_size=2)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, pooled, atol=1e-5)


def test_what_is_saved_comes_back(encoder: ScanEncoder, patches: np.ndarray, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    loaded = load_encoder(tmp_path / "encoder")
    assert isinstance(loaded, ScanEncoder)
    assert loaded.preprocessing == encoder.preprocessing
    assert loaded.spacing_mm == (2.0, 2.0, 2.0)
    np.testing.assert_array_equal(loaded.embed(patches), encoder.embed(patches))


def test_raw_units_do_not_matter_and_a_given_range_is_used(encoder: ScanEncoder, patches: np.ndarray) -> None:
    own = encoder.embed(patches)
    np.testing.assert_allclose(encoder.embed(patches * 800), own, atol=1e-4)
    np.testing.assert_allclose(
        encoder.embed(patches * 800, intensity=(0, 800)), encoder.embed(patches, intensity=(0, 1)), atol=1e-4
    )
    assert np.abs(encoder.embed(patches, intensity=(0, 3)) - own).max() > 1e-3


@pytest.mark.parametrize("intensity", ["window", "zscore", "modality"])
def test_a_patch_is_normalised_as_a_scan_of_it_would_be(intensity: str) -> None:
    spec = Preprocessing(intensity=intensity, window_hu=(-300, 200))
    encoder = ScanEncoder(ScanEncoderConfig(width=4), spec).untrained(0)
    raw = np.random.default_rng([2]).normal(size=(1, 24, 24, 24)).astype(np.float32) * 200
    scan = preprocess(Volume(raw, np.diag([2.0, 2.0, 2.0, 1.0])), spec)
    given, expected = encoder.embed(raw[None]), encoder.embed(scan.array[None], intensity=(0, 1))
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_one_patch_does_not_change_another(encoder: ScanEncoder, patches: np.ndarray) -> None:
    np.testing.assert_allclose(encoder.embed(patches)[2:3], encoder.embed(patches[2:3]), atol=1e-5)


def test_embedding_leaves_training_mode_as_it_was(encoder: ScanEncoder, patches: np.ndarray) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train().embed(patches)
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("path", ["one/scan.nii", Path("one/scan.nii")])
def test_one_path_alone_is_refused(encoder: ScanEncoder, path: str | Path) -> None:
    with pytest.raises(DataError, match=r"list of paths; .* embed\(\[path\]\)"):
        encoder.embed(path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_umask_says_who_may_load_it(encoder: ScanEncoder, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        encoder.save_pretrained(tmp_path / "saved")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()} == {mode}


def test_scans_embed_from_their_paths(encoder: ScanEncoder, tmp_path: Path) -> None:
    rng = np.random.default_rng([2])
    paths = []
    for number in range(2):
        data = np.zeros((40, 40, 40), np.float32)
        data[5:35, 5:35, 5:35] = rng.random((30, 30, 30)) * (number + 1) + 1
        paths.append(tmp_path / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1])), paths[-1])
    both = encoder.embed(paths)
    assert both.shape == (2, 48)
    np.testing.assert_allclose(encoder.embed([str(paths[1])])[0], both[1], atol=1e-5)
    assert encoder.embed([]).shape == (0, 48)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 24, 24, 24)),
        np.zeros((3, 2, 24, 24, 24)),
        np.zeros((3, 1, 24, 24, 4)),
        np.full((1, 1, 24, 24, 24), np.nan),
    ],
)
def test_bad_patches_are_refused(encoder: ScanEncoder, bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="patches"):
        encoder.embed(bad)


def test_a_constant_patch_embeds_to_something_finite(encoder: ScanEncoder) -> None:
    assert np.isfinite(encoder.embed(np.full((1, 1, 24, 24, 24), 7.0))).all()


@pytest.mark.parametrize(
    ("change", "message"), [("drop", "1 missing"), ("add", "1 unexpected"), ("shape", "1 of another shape")]
)
def test_weights_that_do_not_fit_are_named(encoder: ScanEncoder, tmp_path: Path, change: str, message: str) -> None:
    encoder.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "network.conv1.weight"
    if change == "drop":
        del weights[name]
    elif change == "add":
        weights["network.extra"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(4, 1, 3, 3, 3)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        ScanEncoder.from_pretrained(tmp_path)
    kept = ScanEncoder.from_pretrained(tmp_path, strict=False).state_dict()
    assert torch.equal(kept["network.layer4.0.conv1.weight"], encoder.state_dict()["network.layer4.0.conv1.weight"])


def test_damaged_files_are_one_line(encoder: ScanEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder"]["widht"] = config["encoder"].pop("width")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"widht.*width"):
        ScanEncoder.from_pretrained(tmp_path)
    encoder.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        ScanEncoder.from_pretrained(tmp_path)


def test_bfloat16_gradients_are_the_same_each_time_and_near_float32(encoder: ScanEncoder, patches: np.ndarray) -> None:
    def gradient(bf16: bool) -> torch.Tensor:
        encoder.zero_grad()
        poison = [torch.full((size,), float("nan")) for size in (1 << 12, 1 << 14, 1 << 16, 1 << 18)]
        del poison  # memory that is read before it is written would hold these
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out = encoder.pooled(encoder(torch.from_numpy(patches)))
        out.float().square().sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters()])

    first, exact = gradient(True), gradient(False)
    assert all(torch.equal(first, gradient(True)) for _ in range(3))
    assert torch.nn.functional.cosine_similarity(first, exact, dim=0) > 0.99


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_other_norms_do_not_depend_on_the_batch_and_come_back(norm: str, patches: np.ndarray, tmp_path: Path) -> None:
    built = ScanEncoder(ScanEncoderConfig(width=4, norm=norm, patch_size=32), Preprocessing()).untrained(0).train()
    assert batch_dependent_layers(built) == []
    assert len(batch_dependent_layers(ScanEncoder(ScanEncoderConfig(width=4), Preprocessing()))) == 12
    x = torch.rand(4, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = built.pooled(built(x))
    torch.testing.assert_close(built.pooled(built(x[1:2])), whole[1:2], atol=1e-5, rtol=1e-5)
    assert whole.std(dim=0).min() > 1e-4  # every channel tells samples apart, also after the coarsest stage
    built.save_pretrained(tmp_path)
    loaded = ScanEncoder.from_pretrained(tmp_path)
    assert loaded.config.norm == norm
    torch.testing.assert_close(loaded.pooled(loaded(x)), whole)


def test_group_norm_equals_its_formula(patches: np.ndarray) -> None:
    built = ScanEncoder(ScanEncoderConfig(width=16, norm="group"), Preprocessing()).untrained(0)
    x = built.network.conv1(torch.from_numpy(patches))
    grouped = x.detach().double().numpy().reshape(5, 8, -1)
    expected = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(built.network.bn1(x).detach().numpy(), expected.reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize(("width", "groups"), [(16, {8}), (12, {2, 4, 8}), (3, {1, 2, 4}), (1, {1, 2, 4})])
def test_groups_are_eight_or_fewer_and_never_of_one_channel_where_there_are_two(width: int, groups: set[int]) -> None:
    built = ScanEncoder(ScanEncoderConfig(width=width, norm="group"), Preprocessing())
    norms = [layer for layer in built.modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == groups and len(norms) == 12
    assert all(norm.num_channels // norm.num_groups >= 2 or norm.num_channels == 1 for norm in norms)


def test_instance_norm_of_a_single_voxel_is_refused() -> None:
    with pytest.raises(ValidationError, match="patch_size from 25, or norm: group"):
        ScanEncoderConfig(norm="instance")
    built = ScanEncoder(ScanEncoderConfig(width=4, norm="instance", patch_size=25), Preprocessing()).eval()
    assert min(built(torch.zeros(1, 1, 25, 25, 25))[3].shape[2:]) == 2
    with pytest.raises(DataError, match="sides from 25"):
        built.embed(np.zeros((1, 1, 24, 24, 24)))


def test_an_encoder_saved_before_networks_and_norms_could_be_chosen_loads(encoder: ScanEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder"].pop("name") == "small_resnet"
    assert config["encoder"].pop("norm") == "batch"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ScanEncoder.from_pretrained(tmp_path).config == encoder.config


def test_a_saved_network_that_is_not_installed_is_named(encoder: ScanEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder"]["name"] = "elsewhere"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no network named 'elsewhere'"):
        ScanEncoder.from_pretrained(tmp_path)


def test_scans_embed_in_boxes(tmp_path: Path) -> None:
    encoder = ScanEncoder(ScanEncoderConfig(width=4, patch_size=(24, 16, 8)), Preprocessing()).untrained(0)
    data = np.random.default_rng([2]).random((40, 40, 40)).astype(np.float32) + 1
    nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1])), tmp_path / "scan.nii.gz")
    assert np.isfinite(encoder.embed([tmp_path / "scan.nii.gz"])).all()


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("bf16", [False, True])
def test_checkpointing_changes_no_bit_of_gradients_or_statistics(norm: str, bf16: bool, patches: np.ndarray) -> None:
    def trained(checkpointing: bool) -> tuple[dict[str, torch.Tensor], int]:
        built = ScanEncoder(ScanEncoderConfig(width=4, norm=norm), Preprocessing()).untrained(0).train()
        if checkpointing:
            built.set_gradient_checkpointing(True)
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        for _ in range(2):
            with (
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
            ):
                loss = built.pooled(built(torch.from_numpy(patches))).float().square().sum()
            loss.backward()
        gradients = {name: parameter.grad for name, parameter in built.named_parameters()}
        return {**gradients, **{name: buffer.clone() for name, buffer in built.named_buffers()}}, kept

    (plain, kept), (checkpointed, kept_less) = trained(False), trained(True)
    assert plain.keys() == checkpointed.keys()
    for name, tensor in plain.items():
        assert torch.equal(tensor, checkpointed[name]), name
    assert kept_less < kept / 2


def test_compiled_checkpointing_changes_no_bit_either(patches: np.ndarray) -> None:
    def trained(compiled: bool) -> dict[str, torch.Tensor]:
        built = ScanEncoder(ScanEncoderConfig(width=4), Preprocessing()).untrained(0).train()
        if compiled:
            built.set_gradient_checkpointing(True)
            built.compile(backend="eager")  # traced, but without a C compiler
        built.pooled(built(torch.from_numpy(patches))).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in built.named_parameters()}
        return gradients | dict(built.named_buffers())

    plain, compiled = trained(False), trained(True)
    assert all(torch.equal(tensor, compiled[name]) for name, tensor in plain.items())
