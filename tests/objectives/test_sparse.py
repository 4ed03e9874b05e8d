"""Networks that see part of a volume: against a walk through the layers by hand, and for what must hold of any."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.encoders.networks.examples import tiny_encoder
from toolkit.encoders.networks import NETWORKS
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import ConfigError
from toolkit.objectives.sparse import masked_group_norm, masked_maps, refuse_unmaskable
from toolkit.scans import Preprocessing

CNNS = [name for name in NETWORKS if NETWORKS.get(name).family == "cnn"]


def visible_cells(side: int = 4, batch: int = 3, share: float = 0.4) -> Tensor:
    """Grids (B, 1, side, side, side) of unequal numbers of visible cells, at least one each."""
    grid = torch.rand(batch, 1, side, side, side, generator=torch.Generator().manual_seed(3)) < share
    grid[:, :, 0, 0, 0] = True
    return grid


def at(visible: Tensor, side: int) -> Tensor:
    """The grid on a map of another side, as NumPy would have it."""
    grid = visible.numpy()
    for axis in (2, 3, 4):
        ratio = side / grid.shape[axis]
        if ratio >= 1:
            grid = grid.repeat(int(ratio), axis)
        else:
            shape = [*grid.shape[:axis], side, int(1 / ratio), *grid.shape[axis + 1 :]]
            grid = grid.reshape(shape).any(axis=axis + 1)
    return torch.from_numpy(grid)


def encoder(norm: str = "batch", **options: Any) -> ScanEncoder:
    config = ScanEncoderConfig(width=8, norm=norm, **options)  # type: ignore[arg-type]
    return ScanEncoder(config, Preprocessing()).untrained(0).double().train()


def views(batch: int = 3, side: int = 24) -> Tensor:
    return torch.randn(batch, 1, side, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by NumPy."""
    array = rows.detach().numpy()
    return torch.tensor(array.mean(axis=0)), torch.tensor(array.var(axis=0))


class Walk:
    """The small residual network layer by layer, with masks and NumPy's statistics."""

    def __init__(self, visible: Tensor) -> None:
        self.visible = visible

    def conv(self, layer: nn.Conv3d, x: Tensor) -> Tensor:
        out = F.conv3d(x, layer.weight, layer.bias, layer.stride, layer.padding)
        return torch.where(at(self.visible, out.shape[2]), out, 0.0)

    def norm(self, layer: nn.Module, x: Tensor) -> Tensor:
        shown = at(self.visible, x.shape[2])
        out = torch.zeros_like(x)
        if isinstance(layer, nn.GroupNorm):
            size = layer.num_channels // layer.num_groups
            for b in range(len(x)):
                for first in range(0, layer.num_channels, size):
                    part = slice(first, first + size)
                    values = x[b, part][:, shown[b, 0]]
                    mean, variance = statistics(values.flatten())
                    normed = (values - mean) / (variance + layer.eps).sqrt()
                    out[b, part][:, shown[b, 0]] = normed * layer.weight[part, None] + layer.bias[part, None]
            return out
        rows = x.movedim(1, -1)[shown[:, 0]]
        mean, variance = statistics(rows)
        normed = (rows - mean) / (variance + layer.eps).sqrt() * layer.weight + layer.bias  # type: ignore[operator]
        out.movedim(1, -1)[shown[:, 0]] = normed
        return out

    def maps(self, net: Any, x: Tensor) -> list[Tensor]:
        x = torch.where(at(self.visible, x.shape[2]), x, 0.0)
        x = self.norm(net.bn1, self.conv(net.conv1, x)).relu()
        found = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            for block in stage:
                inner = self.norm(block.bn1, self.conv(block.conv1, x)).relu()
                inner = self.norm(block.bn2, self.conv(block.conv2, inner))
                x = x if block.downsample is None else self.norm(block.downsample[1], self.conv(block.downsample[0], x))
                x = (x + inner).relu()
            found.append(x)
        return found


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_maps_are_those_of_a_walk_through_the_layers(norm: str) -> None:
    side, options = (32, {"stem_stride": 2, "patch_size": 32}) if norm == "instance" else (24, {})
    network, visible, x = encoder(norm, **options), visible_cells(), views(side=side)
    with torch.no_grad():
        found, expected = masked_maps(network, x, visible), Walk(visible).maps(network.network, x)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_running_statistics_are_those_of_visible_voxels() -> None:
    network, visible = encoder(), visible_cells()
    net: Any = network.network
    masked_maps(network, views(), visible)
    stem = F.conv3d(torch.where(at(visible, 24), views(), 0.0), net.conv1.weight, None, 3, 2)
    rows = stem.movedim(1, -1)[at(visible, 8)[:, 0]].detach().numpy()
    np.testing.assert_allclose(net.bn1.running_mean.numpy(), 0.1 * rows.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(net.bn1.running_var.numpy(), 0.9 + 0.1 * rows.var(axis=0, ddof=1), rtol=1e-9)


def test_group_norm_where_all_is_visible_is_torchs() -> None:
    x, layer = torch.randn(2, 8, 3, 4, 5), nn.GroupNorm(4, 8)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    everything = torch.ones(2, 1, 3, 4, 5, dtype=torch.bool)
    torch.testing.assert_close(masked_group_norm(x, everything, 4, layer.weight, layer.bias, layer.eps), layer(x))


def test_group_norm_of_unequal_numbers_is_torchs_of_what_is_visible() -> None:
    """Whatever lies where nothing is visible."""
    x, visible = torch.randn(3, 8, 4, 4, 4), visible_cells()
    found = masked_group_norm(x, visible, 2, None, None, 1e-5)
    for row, shown in enumerate(visible[:, 0]):
        expected = F.group_norm(x[row][:, shown][None], 2)[0]
        torch.testing.assert_close(found[row][:, shown], expected)
        assert (found[row][:, ~shown] == 0).all()


@pytest.fixture(params=CNNS)
def of_any_family(request: pytest.FixtureRequest) -> ScanEncoder:
    return tiny_encoder(request.param).train()


def test_hidden_voxels_reach_nothing_and_places_that_show_nothing_stay_zero(of_any_family: ScanEncoder) -> None:
    """At any depth: the mask's pattern is in every map."""
    side = of_any_family.config.sides[0]
    visible, x = visible_cells(batch=2), torch.randn(2, 1, side, side, side)
    x.requires_grad_()
    maps = masked_maps(of_any_family, x, visible)
    others = masked_maps(of_any_family, torch.where(at(visible, side), x, torch.full_like(x, 1e3)), visible)
    for one, other in zip(maps, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        shown = F.adaptive_max_pool3d(visible.float(), one.shape[2:]).bool().expand_as(one)
        assert (one[~shown] == 0).all() and one[shown].abs().sum() > 0
    (gradient,) = torch.autograd.grad(sum(one.square().sum() for one in maps), x)
    assert (gradient[~at(visible, side)] == 0).all() and (gradient[at(visible, side)] != 0).any()


def test_after_the_call_the_network_is_the_plain_one(of_any_family: ScanEncoder) -> None:
    side, network = of_any_family.config.sides[0], of_any_family.eval()
    x, keys = torch.randn(2, 1, side, side, side), list(network.state_dict())
    with torch.no_grad():
        before = network(x)
        masked_maps(network, x, visible_cells(batch=2))
        after = network(x)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert list(network.state_dict()) == keys
    assert not any("forward" in layer.__dict__ for layer in network.modules())


def test_it_is_the_plain_one_too_after_an_error_and_after_the_backward_pass() -> None:
    network = encoder()
    with pytest.raises(RuntimeError):
        masked_maps(network, views().float(), visible_cells())
    assert not any("forward" in layer.__dict__ for layer in network.modules())
    sum(one.sum() for one in masked_maps(network, views(), visible_cells())).backward()  # type: ignore[union-attr]
    assert not any("forward" in layer.__dict__ for layer in network.modules())


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_gradient_checkpointing_changes_nothing(norm: str) -> None:
    """What is computed again in the backward pass is masked as the first time, and counts once."""
    found = []
    for checkpointing in (False, True):
        network = encoder(norm)
        network.set_gradient_checkpointing(checkpointing)
        maps = masked_maps(network, views(), visible_cells())
        sum(one.square().mean() for one in maps).backward()  # type: ignore[union-attr]
        found.append({name: p.grad for name, p in network.named_parameters()} | dict(network.named_buffers()))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_out_of_memory_in_the_backward_pass_leaves_the_plain_network() -> None:
    """The engine halves the portions and tries again; no mask may be left, nor copies of running statistics."""
    network = encoder()
    network.set_gradient_checkpointing(True)
    maps = masked_maps(network, views(), visible_cells())
    own = dict(network.named_buffers())

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    network.network.layer2[0].conv2.register_forward_hook(full)  # type: ignore[index, union-attr]
    with pytest.raises(torch.OutOfMemoryError):
        sum(one.sum() for one in maps).backward()  # type: ignore[union-attr]
    assert not any("forward" in layer.__dict__ for layer in network.modules())
    assert all(buffer is own[name] for name, buffer in network.named_buffers())


def test_what_else_stands_in_for_a_layer_stays() -> None:
    """Gradient checkpointing puts it there for the second computation and leaves it after."""
    network = encoder()
    network.set_gradient_checkpointing(True)
    layer = network.network.layer2[0].conv2  # type: ignore[index, union-attr]
    layer.forward = own = lambda x: type(layer).forward(layer, x)
    network(views())[3].sum().backward()
    assert layer.__dict__["forward"] is own


def test_what_somebody_put_in_a_layers_place_is_used_and_stays() -> None:
    """Such as a forward that adds an adapter: after the call it stands there again, after an error too."""
    network, other, visible = encoder().eval(), encoder().eval(), visible_cells()
    conv, norm = network.network.layer2[0].conv2, network.network.layer2[0].bn2  # type: ignore[index, union-attr]
    conv.forward = double = lambda x: 2 * type(conv).forward(conv, x)
    norm.forward = triple = lambda x: 3 * type(norm).forward(norm, x)
    found = masked_maps(network, views(), visible)
    with torch.no_grad():
        other.network.layer2[0].conv2.weight *= 2  # type: ignore[index, union-attr, operator]
        for parameter in other.network.layer2[0].bn2.parameters():  # type: ignore[index, union-attr]
            parameter *= 3
    expected = masked_maps(other, views(), visible)
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted)
    with pytest.raises(RuntimeError):
        masked_maps(network, views().float(), visible)
    assert conv.__dict__["forward"] is double and norm.__dict__["forward"] is triple
    assert [layer for layer in network.modules() if "forward" in layer.__dict__] == [conv, norm]


def test_a_norm_that_cannot_be_masked_is_named() -> None:
    network = encoder()
    network.network.layer2[0].bn1 = nn.LayerNorm(8)  # type: ignore[index, union-attr]
    with pytest.raises(ConfigError, match=r"layer2\.0\.bn1 is a LayerNorm; set encoder\.norm: group"):
        refuse_unmaskable(network)
