"""Batch norm over two processes against one process with the whole batch, in float64."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from toolkit.training.sync_batch_norm import SyncBatchNorm, batch_dependent_layers, convert_sync_batch_norm

SHAPE = (7, 3, 4, 2, 2)
SPLITS = {"equal": [4, 3], "unequal": [6, 1], "one_is_empty": [7, 0]}


def network(momentum: float | None = 0.1) -> nn.Sequential:
    """Two norms in a row, so that the gradient of the second passes through the statistics of the first."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.BatchNorm3d(3, momentum=momentum), nn.Conv3d(3, 5, 1), nn.Tanh(), nn.BatchNorm3d(5, affine=False)
    )
    layers[0].weight.data.uniform_(0.5, 2)
    layers[0].bias.data.normal_()
    return layers.double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 3 + 2
    return x, torch.randn(7, 5, 4, 2, 2, generator=generator, dtype=torch.float64)


def results(net: nn.Module, rows: slice) -> dict[str, torch.Tensor]:
    """Two steps of a weighted sum of the outputs, then an evaluation."""
    x, weights = inputs()
    for _ in range(2):
        net.zero_grad()
        own = x[rows].clone().requires_grad_()
        out = net(own)
        (out * weights[rows]).sum().backward()
    found = {"out": out.detach(), "input_gradient": own.grad}
    found |= {f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()}
    found |= {f"buffer {name}": buffer for name, buffer in net.named_buffers()}
    return found | {"evaluated": net.eval()(x[rows]).detach()}


def _process(rank: int, folder: str, sizes: list[int], momentum: float | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    torch.save(results(convert_sync_batch_norm(network(momentum)), rows), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("split", "momentum"), [("equal", 0.1), ("unequal", None), ("one_is_empty", 0.1)])
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path, split: str, momentum: float | None) -> None:
    mp.spawn(_process, (str(tmp_path), SPLITS[split], momentum), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, expected in results(network(momentum), slice(0, 7)).items():
        if name.startswith("buffer"):
            assert torch.equal(first[name], second[name])
            got = first[name]
        elif name.startswith("gradient"):
            got = first[name] + second[name]
        else:
            got = torch.cat([first[name], second[name]])
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def _far_from_zero(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(2)) + 3000
    out = convert_sync_batch_norm(nn.BatchNorm1d(3))(x[rank::2])
    coarse = convert_sync_batch_norm(nn.BatchNorm1d(3))(x[rank::2].bfloat16())
    torch.save([x, out.detach(), coarse.detach()], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_a_large_mean_in_float32_does_not_cancel(tmp_path: Path) -> None:
    mp.spawn(_far_from_zero, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    x = parts[0][0].double().numpy()
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    for rank, (_, out, coarse) in enumerate(parts):
        np.testing.assert_allclose(out, expected[rank::2], atol=1e-3)
        assert coarse.dtype == torch.bfloat16


def test_alone_it_is_plain_batch_norm_bit_for_bit() -> None:
    plain, converted = (results(net, slice(0, 7)) for net in (network(), convert_sync_batch_norm(network())))
    assert plain.keys() == converted.keys()
    assert all(torch.equal(plain[name], converted[name]) for name in plain)


def test_conversion_keeps_parameters_keys_mode_and_class_when_copied() -> None:
    net = network().eval()
    parameters, keys = list(net.parameters()), list(net.state_dict())
    converted = deepcopy(convert_sync_batch_norm(net))
    assert isinstance(converted[0], SyncBatchNorm) and isinstance(converted[3], SyncBatchNorm)
    assert not converted[0].training
    assert all(p is q for p, q in zip(parameters, net.parameters(), strict=True))
    assert list(converted.state_dict()) == keys
    assert isinstance(convert_sync_batch_norm(nn.BatchNorm1d(2)), SyncBatchNorm)


def test_layers_that_depend_on_the_batch_are_named() -> None:
    norms = ["batch", "syncbatch", "instance", ("group", {"num_groups": 1})]
    net = nn.ModuleDict({str(i): get_norm_layer(norm, spatial_dims=3, channels=4) for i, norm in enumerate(norms)})
    net["inner"] = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert batch_dependent_layers(net) == ["0", "1", "inner.1"]
    assert batch_dependent_layers(convert_sync_batch_norm(net)) == ["0", "1", "inner.1"]
    assert batch_dependent_layers(nn.LayerNorm(3)) == []
