"""NT-Xent against a float64 formula written out term by term, in value and in gradient."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from toolkit.objectives.simclr import SimCLR, SimCLRConfig, nt_xent_loss
from toolkit.training.sync_batch_norm import batch_dependent_layers


def formula(z0: np.ndarray, z1: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020, averaged over all 2N, in float64 and without any vectorised trick."""
    z = np.concatenate([z0, z1]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total, n = 0.0, len(z0)
    for i in range(2 * n):
        others = [float(z[i] @ z[k]) / temperature for k in range(2 * n) if k != i]
        top = max(others)
        total += (
            top + math.log(sum(math.exp(o - top) for o in others)) - float(z[i] @ z[(i + n) % (2 * n)]) / temperature
        )
    return total / (2 * n)


def pair(n: int = 6, d: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    z0, z1 = np.random.default_rng([seed]).normal(size=(2, n, d))
    return z0, z0 + 0.5 * z1


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_value_equals_the_formula(temperature: float, n: int) -> None:
    z0, z1 = pair(n)
    expected = formula(z0, z1, temperature)
    assert nt_xent_loss(torch.tensor(z0), torch.tensor(z1), temperature).item() == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )
    single = nt_xent_loss(torch.tensor(z0).float(), torch.tensor(z1).float(), temperature).item()
    assert single == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 0.05])
def test_gradient_equals_finite_differences_of_the_formula(temperature: float) -> None:
    z0, z1 = pair(4, 3)
    views = [torch.tensor(z, requires_grad=True) for z in (z0, z1)]
    nt_xent_loss(*views, temperature).backward()
    step = 1e-6
    for which, view in enumerate(views):
        for index in np.ndindex(4, 3):
            ends = []
            for sign in (1, -1):
                moved = [z0.copy(), z1.copy()]
                moved[which][index] += sign * step
                ends.append(formula(*moved, temperature))
            assert view.grad[index].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("n", [2, 17])
def test_collapse_is_the_logarithm_of_the_number_of_others(n: int) -> None:
    z = torch.ones(n, 8)
    assert nt_xent_loss(z, z, 0.1).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_tiny_temperature_with_its_gradient(dtype: torch.dtype) -> None:
    views = [torch.tensor(z, dtype=dtype, requires_grad=True) for z in pair(32, 16)]
    loss = nt_xent_loss(*views, 1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(view.grad).all() for view in views)


def test_autocast_does_not_coarsen_it() -> None:
    views = [torch.tensor(z).float() for z in pair(16, 8)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent_loss(*views, 0.05)
    assert torch.equal(inside, nt_xent_loss(*views, 0.05))


def test_length_of_the_vectors_does_not_matter() -> None:
    z0, z1 = (torch.tensor(z) for z in pair())
    assert nt_xent_loss(z0 * 7, z1 * 0.1, 0.2).item() == pytest.approx(nt_xent_loss(z0, z1, 0.2).item(), rel=1e-9)


class Encoder(nn.Module):
    """Pooled features are a linear map of the voxels."""

    embed_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_the_step_holds_the_sum_over_all_views() -> None:
    torch.manual_seed(0)
    objective = SimCLR(SimCLRConfig(hidden_dim=8, projection_dim=4), Encoder())
    batch = {f"view{view}": torch.randn(5, 1, 2, 2, 2) for view in range(2)}
    step = objective(batch)
    assert step.count == 10
    z = objective.embed(batch)
    assert (step.loss_sum / step.count).item() == pytest.approx(
        formula(*(v.detach().numpy() for v in z), 0.2), rel=1e-4
    )
    assert step.embeddings.shape == (5, 4)
    step.loss_sum.backward()
    assert objective.encoder.linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("norm", "independent"), [("batch", False), ("layer", True), ("none", True)])
def test_one_sample_does_not_change_anothers_projection_unless_by_batch_norm(norm: str, independent: bool) -> None:
    torch.manual_seed(0)
    objective = SimCLR(SimCLRConfig(hidden_dim=8, projection_dim=4, head_norm=norm), Encoder()).double()
    assert (batch_dependent_layers(objective) == []) == independent
    batch = {f"view{view}": torch.randn(6, 1, 2, 2, 2).double() for view in range(2)}
    whole = objective.embed(batch)
    half = objective.embed({name: views[:3] for name, views in batch.items()})
    assert all(torch.allclose(w[:3], h, atol=1e-12) == independent for w, h in zip(whole, half, strict=True))


def _gathering(rank: int, port: str, folder: str, z0: torch.Tensor, z1: torch.Tensor) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    share = slice(rank * len(z0) // 2, (rank + 1) * len(z0) // 2)
    views = [z[share].clone().requires_grad_() for z in (z0, z1)]
    loss = nt_xent_loss(*views, 0.1, gather=True)
    loss.backward()
    torch.save([loss.detach(), *(view.grad for view in views)], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_of_n_equal_one_of_2n(tmp_path: Path, unused_port: str) -> None:
    z0, z1 = (torch.tensor(z) for z in pair(8, 5))
    mp.spawn(_gathering, (unused_port, str(tmp_path), z0, z1), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole = [z.clone().requires_grad_() for z in (z0, z1)]
    loss = nt_xent_loss(*whole, 0.1)
    loss.backward()
    assert torch.stack([part[0] for part in parts]).mean().item() == pytest.approx(loss.item(), rel=1e-9)
    for view in range(2):
        gathered = torch.cat([part[view + 1] for part in parts]) / 2  # DDP averages over processes
        torch.testing.assert_close(gathered, whole[view].grad)


@pytest.fixture
def unused_port() -> str:
    """A free local port for two processes to meet at."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])
