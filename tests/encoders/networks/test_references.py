"""Each network against the library that it is taken from: the same names of weights, the same maps."""

import sys
from collections.abc import Sequence

import monai.networks.nets as nets
import numpy as np
import pytest
import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from tests.encoders.networks.examples import patches, tiny_config, tiny_encoder
from toolkit.encoders.networks.vit import sine_cosine_positions
from toolkit.encoders.scan import ScanEncoder
from toolkit.errors import ConfigError


def outputs_of(layers: Sequence[nn.Module], run: nn.Module, x: Tensor) -> list[Tensor]:
    """What `layers` gave while `run(x)`."""
    found: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _, __, out: found.append(out.clone())) for layer in layers]
    run(x)
    for handle in handles:
        handle.remove()
    return found


def weights(encoder: ScanEncoder) -> dict[str, Tensor]:
    """In float64 from here on; with statistics that are not those of the start."""
    encoder.train()(patches(encoder.config, 4))
    return encoder.double().eval().network.state_dict()


def assert_equal(maps: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(maps) == len(expected)
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize(
    ("depth", "block", "layers", "shortcut", "bias"),
    [
        (10, "basic", [1, 1, 1, 1], "B", True),
        (18, "basic", [2, 2, 2, 2], "A", False),
        (34, "basic", [3, 4, 6, 3], "A", False),
        (50, "bottleneck", [3, 4, 6, 3], "B", False),
        (50, "bottleneck", [3, 4, 6, 3], "A", False),
    ],
)
def test_resnet_is_monais(depth: int, block: str, layers: list[int], shortcut: str, bias: bool) -> None:
    encoder = tiny_encoder("resnet", depth=depth, shortcut=shortcut, shortcut_bias=bias)
    reference = ResNet(
        block, layers, [4, 8, 16, 32], n_input_channels=1, conv1_t_size=7, conv1_t_stride=2, shortcut_type=shortcut,
        bias_downsample=bias, feed_forward=False,
    )  # fmt: skip
    reference.load_state_dict(weights(encoder))
    reference.double().eval()
    x = patches(encoder.config, sides=(40, 33, 48)).double()
    with torch.no_grad():
        stages = [reference.layer1, reference.layer2, reference.layer3, reference.layer4]
        assert_equal(encoder(x), outputs_of(stages, reference, x))
        assert_equal([encoder.pooled(encoder(x))], [reference(x)])


def test_shortcut_a_lets_the_gradient_through_where_monais_does_not() -> None:
    encoder = tiny_encoder("resnet", shortcut="A")
    shortcut = encoder.network.layer2[0].downsample
    x = torch.ones(1, 4, 4, 4, 4, requires_grad=True)
    out = shortcut(x)
    assert out.shape == (1, 8, 2, 2, 2) and not out[:, 4:].any()
    out.sum().backward()
    assert x.grad is not None and x.grad.sum() == 4 * 8


def test_a_dilated_resnet_keeps_the_resolution_and_its_weights() -> None:
    plain, dilated = tiny_encoder("resnet"), tiny_encoder("resnet", dilated=True)
    dilated.load_state_dict(plain.state_dict())
    assert plain.stride == (32, 32, 32) and dilated.stride == (8, 8, 8)
    x = patches(plain.config, 1, (32, 32, 32))
    assert [tuple(m.shape[2:]) for m in dilated(x)] == [(8,) * 3, (4,) * 3, (4,) * 3, (4,) * 3]
    assert dilated.network.layer3[0].conv1.dilation == (2, 2, 2)
    assert dilated.network.layer4[0].conv2.dilation == (4, 4, 4)


def test_densenet_is_monais() -> None:
    encoder = tiny_encoder("densenet")
    reference = nets.DenseNet(3, 1, 1, init_features=8, growth_rate=4, block_config=(2, 1, 1, 2))
    features = {key.removeprefix("features."): value for key, value in weights(encoder).items()}
    reference.features.load_state_dict(features)
    reference.double().eval()
    x = patches(encoder.config, sides=(40, 33, 48)).double()
    with torch.no_grad():
        blocks = [reference.features.get_submodule(f"denseblock{number}") for number in (1, 2, 3)]
        maps, last = outputs_of(blocks, reference, x), reference.features(x).relu()
        assert_equal(encoder(x), [*maps, last])
        expected = reference.class_layers.flatten(reference.class_layers.pool(last))
        assert_equal([encoder.pooled(encoder(x))], [expected])


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_segresnet_is_monais(norm: str) -> None:
    encoder = tiny_encoder("segresnet", width=8, norm=norm)
    reference = nets.SegResNet(
        in_channels=1, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1),
        **({} if norm == "group" else {"norm": norm}),
    )  # fmt: skip
    loaded = reference.load_state_dict(weights(encoder), strict=False)
    assert loaded.unexpected_keys == []
    assert all(key.startswith(("up_", "conv_final")) for key in loaded.missing_keys)
    x = patches(encoder.config, sides=(24, 17, 32)).double()
    with torch.no_grad():
        assert_equal(encoder(x), reference.double().eval().encode(x)[1])


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_resenc_unet_is_nnunets(norm: str) -> None:
    encoders = pytest.importorskip("dynamic_network_architectures.building_blocks.residual_encoders")
    encoder = tiny_encoder("resenc_unet", norm=norm)
    reference = encoders.ResidualEncoder(
        1, 3, (4, 8, 8), nn.Conv3d, 3, (1, 2, 2), (1, 2, 1), conv_bias=True, nonlin=nn.LeakyReLU,
        norm_op={"instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}[norm], norm_op_kwargs={"affine": True},
        nonlin_kwargs={"inplace": True}, return_skips=True,
    )  # fmt: skip
    own = weights(encoder)
    names = {
        key: key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        for key in reference.state_dict()
    }
    assert set(names.values()) == set(own)
    reference.load_state_dict({key: own[name] for key, name in names.items()})
    x = patches(encoder.config, sides=(24, 20, 32)).double()
    with torch.no_grad():
        assert_equal(encoder(x), reference.double().eval()(x))


def test_resenc_unet_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dynamic_network_architectures"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    with pytest.raises(ConfigError, match="pip install --no-deps dynamic-network-architectures"):
        tiny_encoder("resenc_unet")


def test_resenc_unet_starts_as_nnunets_does_with_its_branches_closed() -> None:
    residual = pytest.importorskip("dynamic_network_architectures.building_blocks.residual")
    blocks = [m for m in tiny_encoder("resenc_unet").modules() if isinstance(m, residual.BasicBlockD)]
    assert blocks and not any(block.conv2.all_modules[1].weight.any() for block in blocks)


@pytest.mark.parametrize("sides", [(24, 24, 24), (24, 33, 20)])
def test_swin_unetr_is_monais(sides: tuple[int, int, int]) -> None:
    encoder = tiny_encoder("swin_unetr")
    reference = SwinTransformer(1, 6, (4, 4, 4), (2, 2, 2), (2, 1, 1, 1), (3, 3, 3, 3))
    reference.load_state_dict(weights(encoder))
    x = patches(encoder.config, sides=sides).double()
    with torch.no_grad():
        assert_equal(encoder(x), reference.double().eval()(x))


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # MONAI's
@pytest.mark.parametrize("class_token", [False, True])
def test_vit_is_monais(class_token: bool) -> None:
    encoder = tiny_encoder("vit", class_token=class_token)
    sides = (24, 16, 32)
    reference = nets.ViT(
        1, sides, 8, hidden_size=12, mlp_dim=48, num_layers=2, num_heads=2, pos_embed_type="sincos", qkv_bias=True,
        classification=class_token,
    )  # fmt: skip
    own = {
        key.replace("patch_embedding.", "patch_embedding.patch_embeddings."): value
        for key, value in weights(encoder).items()
    }
    if class_token:
        own["cls_token"] = own.pop("class_token")
    loaded = reference.load_state_dict(own, strict=False)
    assert loaded.unexpected_keys == []
    assert all("norm_cross" in key or "position" in key or "head" in key for key in loaded.missing_keys)
    x = patches(encoder.config, sides=sides).double()
    with torch.no_grad():
        tokens = reference.norm(reference.double().eval()(x)[1][-1])[:, int(class_token) :]
        assert_equal(encoder(x), [tokens.transpose(1, 2).reshape(3, 12, 3, 2, 4)])


def test_positions_are_sines_and_cosines_in_c_order() -> None:
    grid, hidden_size = (3, 2, 4), 18
    positions = sine_cosine_positions(grid, hidden_size)
    torch.testing.assert_close(
        positions, build_sincos_position_embedding(list(grid), hidden_size)[0], atol=1e-6, rtol=0
    )
    i, j, k = (index.ravel() for index in np.indices(grid))
    waves = 10_000 ** (-np.arange(3) / 3)
    expected = [f(index[:, None] * waves) for index in (j, i, k) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(positions.numpy(), np.concatenate(expected, axis=1), atol=1e-6)


def test_leaving_tokens_out_is_leaving_them_out_of_attention() -> None:
    encoder = tiny_encoder("vit")
    x = patches(tiny_config("vit"))
    network, kept = encoder.network, torch.tensor([0, 3, 5, 20])
    tokens = network.tokens(x)
    assert tokens.shape == (3, 27, 12)
    some = network.transformed(tokens[:, kept])
    mask = torch.full((27,), float("-inf")).index_fill(0, kept, 0)
    z = tokens
    for block in network.blocks:
        qkv = block.attn.qkv(block.norm1(z)).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        attention = (qkv[0] @ qkv[1].transpose(2, 3) / 6**0.5 + mask).softmax(-1)
        z = z + block.attn.out_proj((attention @ qkv[2]).transpose(1, 2).flatten(2))
        z = z + block.mlp(block.norm2(z))
    torch.testing.assert_close(some, network.norm(z)[:, kept], atol=1e-5, rtol=1e-5)
