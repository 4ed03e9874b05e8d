"""Other people's weights: a file of each origin gives our network the outputs of the network that it is from."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet, SegResNet, SegResNetDS, SwinUNETR
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.encoders.networks.examples import tiny_config, tiny_encoder
from toolkit.encoders.checkpoints import Init, Loaded, initialise
from toolkit.encoders.networks import build_network
from toolkit.encoders.scan import ScanEncoder
from toolkit.errors import CheckpointError, ConfigError


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """`network` with weights and statistics as no untrained one has them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if name.endswith("running_var") else tensor + 0.2 * (noise - 0.5))
    return network.eval().double()


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()


def exact(name: str, **values: Any) -> ScanEncoder:
    """A tiny encoder in float64, in which different orders of summation agree."""
    return tiny_encoder(name, **values).double()


def load(encoder: ScanEncoder, contents: Any, origin: str, folder: Path, **values: Any) -> Loaded:
    path = folder / "weights.pth"
    torch.save(contents, path)
    return initialise(encoder, Init(path=path, origin=origin, **values))


def parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As DataParallel names it."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


def monai_resnet(**values: Any) -> ResNet:
    shape = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 16, 32], "n_input_channels": 1}
    return ResNet(**shape | {"conv1_t_stride": 2, "bias_downsample": False, "num_classes": 3} | values)


# --- monai -----------------------------------------------------------------------------------------------------------


def resnet_map(net: ResNet, x: Tensor) -> Tensor:
    x = net.maxpool(net.act(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def segresnet_map(net: SegResNet, x: Tensor) -> Tensor:
    return net.encode(x)[0]


def densenet_map(net: DenseNet, x: Tensor) -> Tensor:
    return net.features(x).relu()


def swin_map(net: SwinUNETR, x: Tensor) -> Tensor:
    return net.swinViT(x, normalize=True)[-1]


def swin_unetr() -> SwinUNETR:
    return SwinUNETR(
        in_channels=1, out_channels=2, feature_size=12, depths=(2, 1, 1, 1), num_heads=(3, 3, 3, 3), window_size=4
    )


OF_MONAI: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor], dict[str, Any], str]] = {
    "resnet": (monai_resnet, resnet_map, {}, "fc.weight"),
    "segresnet": (
        lambda: SegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        segresnet_map,
        {},
        "up_layers.0.0.conv1.conv.weight",
    ),
    "segresnet_ds": (
        lambda: SegResNetDS(init_filters=4, blocks_down=(1, 1, 1)),
        lambda net, x: net.encoder(x)[-1],
        {},
        "up_layers.0.upsample.deconv.weight",
    ),
    "densenet": (
        lambda: DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 1, 1, 2)),
        densenet_map,
        {},
        "class_layers.out.weight",
    ),
    "swin_unetr": (swin_unetr, swin_map, {"width": 12}, "encoder1.layer.conv1.conv.weight"),
}


@pytest.mark.parametrize("name", OF_MONAI)
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_dict_of_monai_gives_monais_outputs(name: str, nested: bool, tmp_path: Path) -> None:
    make, features, values, head = OF_MONAI[name]
    reference, encoder = trained(make()), exact(name, **values)
    state = reference.state_dict()
    loaded = load(encoder, {"epoch": 3, "state_dict": parallel(state)} if nested else state, "monai", tmp_path)
    assert head in loaded.left_out and not loaded.report.unfit
    x = noise(2, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[-1], features(reference, x), atol=1e-9, rtol=1e-9)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    loaded = load(exact("resnet"), trained(monai_resnet()).state_dict(), "monai", tmp_path)
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert str(loaded) == f"monai sha256:{digest}"


# --- medicalnet ------------------------------------------------------------------------------------------------------


def medicalnet_features(state: dict[str, Tensor], blocks: tuple[int, ...], shortcut: str, x: Tensor) -> Tensor:
    """MedicalNet's last map, written from its description: names of tensors and functions of torch alone."""

    def conv(x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        padding = dilation * (kernel.shape[-1] // 2)
        return F.conv3d(x, kernel, state.get(f"{name}.bias"), stride=stride, dilation=dilation, padding=padding)

    def norm(x: Tensor, name: str) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    x = F.max_pool3d(norm(conv(x, "conv1", stride=2), "bn1").relu(), 3, stride=2, padding=1)
    for stage, (num_blocks, stride, dilation) in enumerate(zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
        for block in range(num_blocks):
            name, step = f"layer{stage}.{block}", stride if block == 0 else 1
            out = norm(conv(x, f"{name}.conv1", step, dilation), f"{name}.bn1").relu()
            out = norm(conv(out, f"{name}.conv2", 1, dilation), f"{name}.bn2")
            if block == 0 and stage > 1:
                if shortcut == "B":
                    x = norm(conv(x, f"{name}.downsample.0", step), f"{name}.downsample.1")
                else:
                    x = x[:, :, ::step, ::step, ::step]
                    x = torch.cat([x, x.new_zeros(len(x), out.shape[1] - x.shape[1], *x.shape[2:])], dim=1)
            x = (out + x).relu()
    return x


@pytest.mark.parametrize(("depth", "blocks", "shortcut"), [(10, (1, 1, 1, 1), "B"), (18, (2, 2, 2, 2), "A")])
def test_medicalnets_weights_give_medicalnets_outputs(
    depth: int, blocks: tuple[int, ...], shortcut: str, tmp_path: Path
) -> None:
    reference = trained(monai_resnet(layers=list(blocks), shortcut_type=shortcut, feed_forward=False))
    state = reference.state_dict()
    decoder = {"conv_seg.0.weight": torch.zeros(32, 4, 2, 2, 2)}  # only training checkpoints have it
    encoder = exact("resnet", depth=depth, shortcut=shortcut, dilated=True, patch_size=32)
    loaded = load(encoder, {"epoch": 1, "state_dict": parallel(state | decoder)}, "medicalnet", tmp_path)
    assert loaded.left_out == ("conv_seg.0.weight",)
    x = noise(2, 1, 32, 32, 32)
    with torch.no_grad():
        expected = medicalnet_features(state, blocks, shortcut, x)
        assert expected.shape[2:] == (4, 4, 4)  # the last two stages do not halve the map
        torch.testing.assert_close(encoder(x)[-1], expected, atol=1e-9, rtol=1e-9)
        strided = exact("resnet", depth=depth, shortcut=shortcut, patch_size=32)
        load(strided, {"state_dict": parallel(state)}, "medicalnet", tmp_path)
        torch.testing.assert_close(strided(x)[-1], resnet_map(reference, x), atol=1e-9, rtol=1e-9)  # MONAI's reading


def test_a_file_of_torch_0_4_has_no_counts_of_batches(tmp_path: Path) -> None:
    state = {n: t for n, t in monai_resnet(feed_forward=False).state_dict().items() if "num_batches" not in n}
    assert not load(exact("resnet"), {"state_dict": parallel(state)}, "medicalnet", tmp_path).report.unfit


# --- swin_unetr_ssl --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "module.swin_vit.", "swinViT."])
def test_the_self_supervised_release_gives_what_monais_own_loading_gives(prefix: str, tmp_path: Path) -> None:
    reference, source = swin_unetr().eval().double(), trained(swin_unetr())
    state = {}
    for name, tensor in source.swinViT.state_dict().items():
        state[prefix + name.replace("mlp.linear", "mlp.fc")] = tensor
    reference.load_from({"state_dict": {f"module.{name.removeprefix(prefix)}": t for name, t in state.items()}})
    outer = "module." if prefix.startswith("module.") else ""
    heads = {
        f"{outer}{name}": torch.zeros(2) for name in ("rotation_head.bias", "contrastive_head.bias", "norm.weight")
    }
    encoder = exact("swin_unetr", width=12)
    loaded = load(encoder, {"state_dict": state | heads}, "swin_unetr_ssl", tmp_path)
    assert loaded.left_out == ("contrastive_head.bias", "norm.weight", "rotation_head.bias")
    x = noise(1, 1, 32, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(encoder(x), reference.swinViT(x, normalize=True), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


# --- nnssl -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def resenc() -> nn.Module:
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    shape = {"n_stages": 3, "features_per_stage": (4, 8, 8), "n_blocks_per_stage": (1, 2, 1), "kernel_sizes": 3}
    norm = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    nonlin = {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
    network: nn.Module = unet.ResidualEncoderUNet(
        1, **shape, **norm, **nonlin, conv_op=nn.Conv3d, strides=(1, 2, 2), num_classes=1,
        n_conv_per_stage_decoder=(1, 1), conv_bias=True,
    )  # fmt: skip
    return trained(network)


def nnssl_checkpoint(state: dict[str, Tensor], stem: str = "encoder.stem", stages: str = "encoder.stages") -> dict:
    plan = {"key_to_stem": stem, "key_to_encoder": stages, "architecture_plans": {"arch_class_name": "ResEncL"}}
    return {"network_weights": state, "nnssl_adaptation_plan": plan, "current_epoch": 1000, "logging": {"loss": [0.5]}}


def test_a_checkpoint_of_nnssl_gives_its_encoders_outputs(resenc: nn.Module, tmp_path: Path) -> None:
    encoder = exact("resenc_unet")
    loaded = load(encoder, nnssl_checkpoint(resenc.state_dict()), "nnssl", tmp_path)
    assert not loaded.report.unfit
    x = noise(2, 1, 24, 24, 24)
    with torch.no_grad():
        for ours, theirs in zip(encoder(x), resenc.encoder(x), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_the_plan_says_where_nnssls_encoder_is(resenc: nn.Module, tmp_path: Path) -> None:
    moved = {name.replace("encoder.", "net.", 1): tensor for name, tensor in resenc.state_dict().items()}
    contents = nnssl_checkpoint(moved, "net.stem", "net.stages")
    assert not load(exact("resenc_unet"), contents, "nnssl", tmp_path).report.unfit
    contents["nnssl_adaptation_plan"]["architecture_plans"]["arch_class_name"] = "PrimusM"
    with pytest.raises(CheckpointError, match="its architecture is PrimusM; of nnssl's, ResEncL can be loaded"):
        load(exact("resenc_unet"), contents, "nnssl", tmp_path)


# --- fewlabel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small_resnet", "vit"])
def test_an_encoder_of_ours_starts_another(name: str, tmp_path: Path) -> None:
    source, encoder = exact(name, seed=1), exact(name)
    source.save_pretrained(tmp_path / "encoder")
    for path in (tmp_path / "encoder", tmp_path / "encoder/model.safetensors"):
        initialise(encoder, Init(path=path, origin="fewlabel"))
        x = noise(2, 1, 24, 24, 24)
        assert torch.equal(encoder.pooled(encoder(x)), source.pooled(source(x)))


# --- the public files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "num_tensors", "num_parameters"), [("ct_fm", 161, 77_760_992), ("medicalnet 50", 318, 46_155_072)]
)
def test_networks_have_the_size_of_the_public_files(card: str, num_tensors: int, num_parameters: int) -> None:
    """Nothing is downloaded: public programs that load these files say how large they are."""
    shapes = {
        "ct_fm": {"name": "segresnet_ds", "width": 32, "blocks": (1, 2, 2, 4, 4)},
        "medicalnet 50": {"name": "resnet", "width": 64, "depth": 50, "dilated": True},
    }
    with torch.device("meta"):
        network = build_network(tiny_config(**shapes[card]))
    assert len(network.state_dict()) == num_tensors
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_counted_and_refused(tmp_path: Path) -> None:
    state = monai_resnet().state_dict()
    del state["bn1.weight"]
    state |= {"layer5.weight": torch.zeros(1), "conv1.weight": torch.zeros(4, 1, 3, 3, 3)}
    encoder = exact("resnet")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    expected = (
        r"weights.pth: keys 1 missing \(bn1.weight\); 1 unexpected \(layer5.weight\); "
        r"1 of another shape \(conv1.weight\); the weights belong to another network"
    )
    with pytest.raises(CheckpointError, match=expected):
        load(encoder, state, "monai", tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    report = load(encoder, state, "monai", tmp_path, strict=False).report
    assert (report.missing, report.unexpected, report.reshaped) == (
        ("bn1.weight",),
        ("layer5.weight",),
        ("conv1.weight",),
    )
    assert torch.equal(encoder.network.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert torch.equal(encoder.network.conv1.weight, before["network.conv1.weight"])


def test_a_file_of_something_else_is_refused_even_where_anything_goes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not one of its tensors fits"):
        load(exact("resnet"), {"w": torch.zeros(1)}, "monai", tmp_path, strict=False)


def test_an_origin_without_weights_for_the_network_names_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has weights for resnet, not for vit; change encoder\.name"):
        load(exact("vit"), {}, "medicalnet", tmp_path)


def test_one_channels_kernel_is_repeated_for_several_where_asked(tmp_path: Path) -> None:
    reference = trained(monai_resnet())
    encoder = exact("resnet", in_channels=3)
    with pytest.raises(ConfigError, match=r"one channel \(conv1.weight\).*in_channels is 3; set init.repeat_stem"):
        load(encoder, reference.state_dict(), "monai", tmp_path)
    assert load(encoder, reference.state_dict(), "monai", tmp_path, strict=False).report.reshaped == ("conv1.weight",)
    load(encoder, reference.state_dict(), "monai", tmp_path, repeat_stem=True)
    x = noise(2, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(x.expand(-1, 3, -1, -1, -1))[-1], resnet_map(reference, x), atol=1e-9, rtol=1e-9
        )


class Shout:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))])
def test_nothing_in_a_file_is_run(write: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    write({"state_dict": {"w": torch.zeros(1)}, "shout": Shout(tmp_path / "heard")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights.pth: holds more than tensors.*nothing of it was run") as error:
        initialise(exact("resnet"), Init(path=tmp_path / "weights.pth", origin="monai"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "heard").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "cannot be read"),
        ("absent.safetensors", None, "cannot be read"),
        ("cut.safetensors", b"12345", "cannot be read"),
        ("empty.pth", b"", "cannot be read|holds more than tensors, or is damaged"),
        ("text.pth", b"not a checkpoint", "holds more than tensors, or is damaged"),
    ],
)
def test_files_that_are_none_are_one_line(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: .*({message})") as error:
        initialise(exact("resnet"), Init(path=tmp_path / name, origin="monai"))
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_origin_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no state dict under state_dict, .* \(it holds weights, epoch\)"):
        load(exact("resnet"), {"weights": {"w": torch.zeros(1)}, "epoch": 1}, "monai", tmp_path)


def test_safetensors_load_too(tmp_path: Path) -> None:
    reference = trained(monai_resnet(feed_forward=False))
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    encoder = exact("resnet")
    initialise(encoder, Init(path=tmp_path / "weights.safetensors", origin="monai"))
    assert torch.equal(encoder.network.conv1.weight, reference.conv1.weight)
