"""What every registered network must do. A new file in toolkit/encoders/networks/ is tested here without a new line."""

import copy
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.encoders.networks.examples import patches, tiny_config, tiny_encoder
from toolkit import load_encoder
from toolkit.encoders.networks import NETWORKS
from toolkit.encoders.scan import ScanEncoder
from toolkit.errors import ConfigError, DataError
from toolkit.scans import Preprocessing
from toolkit.training.sync_batch_norm import batch_dependent_layers

NEEDS = {"resenc_unet": "dynamic_network_architectures"}


@pytest.fixture(params=list(NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    package = NEEDS.get(request.param)
    if package and not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed")
    return request.param


def trained(encoder: ScanEncoder) -> ScanEncoder:
    """With statistics that are not 0 and 1 and no weight that is exactly 0, as training leaves them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        encoder.train()(patches(encoder.config, 4))
    return encoder.eval()


def loss(encoder: ScanEncoder, x: Tensor) -> Tensor:
    """Of all maps and of the embedding."""
    features = encoder(x)
    of_maps = sum((x.float().sin() * torch.arange(x.shape[1])[:, None, None, None]).mean() for x in features)
    return of_maps + encoder.pooled(features).float().square().sum()


def gradients(encoder: ScanEncoder, x: Tensor) -> dict[str, Tensor | None]:
    encoder.zero_grad()
    loss(encoder, x).backward()
    return {name: parameter.grad for name, parameter in encoder.named_parameters()}


def test_the_registered_name_is_the_configured_one_and_the_default_fits_itself(name: str) -> None:
    config: Any = NETWORKS.get(name).Config()
    assert config.name == name
    assert config.refusal(config.sides) == "" and config.refusal((config.min_side,) * 3) == ""
    assert NETWORKS.get(name).family in ("cnn", "vit", "swin")


@pytest.mark.parametrize("channels", [1, 4])
def test_maps_are_as_announced_for_cubes_and_boxes(name: str, channels: int) -> None:
    encoder = tiny_encoder(name, in_channels=channels)
    config, step = encoder.config, max(encoder.config.multiples)
    n = max(config.sides[0], config.min_side)
    for sides in ((n, n, n), (n, n + step, n + 2 * step), tuple(2 * side for side in encoder.stride)):
        features = encoder(patches(config, 2, sides))
        assert [map_BCIJK.shape[:2] for map_BCIJK in features] == [(2, number) for number in encoder.channels]
        assert all((np.diff([map_BCIJK.shape[axis] for map_BCIJK in features]) <= 0).all() for axis in (2, 3, 4))
        assert encoder.pooled(features).shape == (2, encoder.embed_dim)
    assert features[-1].shape[2:] == (2, 2, 2)  # of patches of two strides
    assert encoder.channels == encoder.network.channels and encoder.family == encoder.network.family


def test_smallest_patches_go_through_training_too(name: str) -> None:
    encoder = tiny_encoder(name).train()
    smallest = patches(encoder.config, 2, (encoder.config.min_side,) * 3)
    assert torch.isfinite(encoder.pooled(encoder(smallest))).all()


def test_gradients_reach_every_parameter(name: str) -> None:
    encoder = trained(tiny_encoder(name)).train()
    found = gradients(encoder, patches(encoder.config))
    assert [key for key, gradient in found.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert sum(bool(gradient.any()) for gradient in found.values()) > 0.9 * len(found)


def test_what_is_saved_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    encoder = trained(tiny_encoder(name))
    encoder.save_pretrained(tmp_path / "encoder")
    x = patches(encoder.config)
    for other in (load_encoder(tmp_path / "encoder"), copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert isinstance(other, ScanEncoder) and other.config == encoder.config
        assert all(torch.equal(*pair) for pair in zip(other(x), encoder(x), strict=True))
        np.testing.assert_array_equal(other.embed(x.numpy()), encoder.embed(x.numpy()))


def test_a_copy_has_weights_of_its_own(name: str) -> None:
    encoder, x = tiny_encoder(name), patches(tiny_config(name))
    before = encoder(x)
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5).add_(0.1)
    assert all(torch.equal(*pair) for pair in zip(encoder(x), before, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(other(x), before, strict=True))


def test_a_patch_embeds_to_the_same_in_any_batch_and_order(name: str) -> None:
    encoder = trained(tiny_encoder(name))
    x, order = patches(encoder.config, 4), torch.tensor([2, 0, 3, 1])
    whole = encoder.pooled(encoder(x))
    assert torch.equal(encoder.pooled(encoder(x)), whole)
    torch.testing.assert_close(encoder.pooled(encoder(x[order])), whole[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.pooled(encoder(x[:1])), whole[:1], atol=1e-5, rtol=1e-4)
    assert (whole[0] - whole[1]).abs().max() > 1e-4


def test_half_precision_is_near_single(name: str) -> None:
    encoder = trained(tiny_encoder(name))  # statistics of a few cells would make much of little
    x = patches(encoder.config)
    exact = gradients(encoder, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = gradients(encoder, x)
        trained_on = gradients(encoder.train(), x)
    both = [torch.cat([found[key].flatten() for key in exact]) for found in (exact, half)]
    assert torch.nn.functional.cosine_similarity(*both, dim=0) > 0.98
    assert all(torch.isfinite(gradient).all() for gradient in trained_on.values())


def test_checkpointing_changes_no_bit_of_gradients_or_statistics(name: str) -> None:
    plain, other = (trained(tiny_encoder(name)).train() for _ in range(2))
    other.set_gradient_checkpointing(True)
    x, kept = patches(plain.config), []
    expected = []
    for encoder in (plain, other):
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss(encoder, x)
        encoder.zero_grad()
        value.backward()
        kept.append(count)
        expected.append({key: parameter.grad for key, parameter in encoder.named_parameters()})
    assert kept[1] < kept[0]
    assert all(torch.equal(expected[0][key], gradient) for key, gradient in expected[1].items())
    assert all(torch.equal(*pair) for pair in zip(plain.buffers(), other.buffers(), strict=True))


def test_random_weights_are_those_of_their_seed(name: str) -> None:
    built = tiny_encoder(name)
    before = torch.get_rng_state()
    states = [built.untrained(seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_patches_that_do_not_fit_are_one_line(name: str) -> None:
    encoder = tiny_encoder(name, in_channels=2)
    n, least = max(encoder.config.sides), encoder.config.min_sides
    shapes = [(1, 3, n, n, n), (1, 2, n, n), (1, 2, n, n, least[2] - 1)]
    shapes += [(1, 2, n + 1, n, n)] if encoder.config.multiples[0] > 1 else []
    for shape in shapes:
        for refused in (
            lambda shape=shape: encoder(torch.zeros(shape)),
            lambda shape=shape: encoder.embed(np.zeros(shape)),
        ):
            with pytest.raises(
                DataError, match=r"patches of shape .*; expected \(N, 2, I, J, K\), sides from"
            ) as error:
                refused()
            assert "\n" not in str(error.value)
    with pytest.raises(ValidationError, match=f"patch_size .* does not fit: {name} takes sides from"):
        tiny_config(name, patch_size=(n, n, least[2] - 1))


def test_a_norm_can_be_chosen_that_does_not_depend_on_the_batch(name: str) -> None:
    if "norm" not in NETWORKS.get(name).Config.model_fields:
        pytest.skip("has no choice of norms")
    assert batch_dependent_layers(tiny_encoder(name, norm="batch"))
    for norm in ("group", "instance"):
        side = 2 * max(tiny_encoder(name).stride)
        encoder = trained(tiny_encoder(name, norm=norm, patch_size=side)).train()
        assert batch_dependent_layers(encoder) == []
        x = patches(encoder.config)
        whole = encoder.pooled(encoder(x))
        torch.testing.assert_close(encoder.pooled(encoder(x[1:2])), whole[1:2], atol=1e-5, rtol=1e-4)
        assert whole.std(dim=0).max() > 1e-4


@pytest.mark.parametrize("name", ["vit", "swin_unetr"])
def test_transformers_do_not_depend_on_the_batch(name: str) -> None:
    assert batch_dependent_layers(tiny_encoder(name)) == []


def test_thick_slices_keep_their_resolution_longer(name: str, tmp_path: Path) -> None:
    if "voxel_mm" not in NETWORKS.get(name).Config.model_fields:
        pytest.skip("has no stages to flatten; token_side has three numbers")
    encoder = trained(tiny_encoder(name, voxel_mm=(1.0, 1.0, 5.0), patch_size=(64, 64, 16)))
    cube = tiny_encoder(name)
    assert encoder.stride[:2] == cube.stride[:2] and encoder.stride[2] < cube.stride[2]
    features = encoder(
        patches(encoder.config, 1, (2 * encoder.stride[0], 2 * encoder.stride[1], 2 * encoder.stride[2]))
    )
    assert features[-1].shape[2:] == (2, 2, 2)
    encoder.save_pretrained(tmp_path)
    x = patches(encoder.config, 1)
    assert torch.equal(ScanEncoder.from_pretrained(tmp_path)(x)[-1], encoder(x)[-1])
    with pytest.raises(ConfigError, match=r"encoder.voxel_mm: \(1.0, 1.0, 5.0\), but preprocessing.spacing_mm: \(2.0"):
        ScanEncoder(encoder.config, Preprocessing())
