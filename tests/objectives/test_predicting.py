"""SimSiam and BYOL: what they compare, and their papers' values."""

import pytest
import torch

from tests.objectives.examples import tiny, tiny_batch
from toolkit.objectives.byol import BYOLConfig
from toolkit.objectives.simsiam import SimSiamConfig, negative_cosine_similarity


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def mean_loss(objective: torch.nn.Module, batch: dict[str, torch.Tensor]) -> float:
    step = objective(batch)
    return (step.loss_sum / step.count).item()


def test_byol_is_half_of_the_papers_sum_of_squared_distances() -> None:
    objective, batch = tiny(BYOLConfig()), tiny_batch(6)
    *_, p0, p1, t0, t1 = (z / z.norm(dim=1, keepdim=True) for z in objective.embed(batch))
    paper = ((p0 - t1).square().sum(1) + (p1 - t0).square().sum(1)).mean()
    assert mean_loss(objective, batch) == pytest.approx(paper.item() / 2, rel=1e-9)


def test_byols_targets_are_the_slow_copys() -> None:
    objective, batch = tiny(BYOLConfig()), tiny_batch(6)
    before = objective.embed(batch)
    with torch.no_grad():
        for parameter in objective.momentum.parameters():
            parameter.mul_(-0.5)
    after = objective.embed(batch)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True] * 4 + [False] * 2


def test_simsiam_is_the_mean_of_both_directions() -> None:
    objective, batch = tiny(SimSiamConfig()), tiny_batch(6)
    z0, z1, p0, p1 = objective.embed(batch)
    expected = -(cosine(p0, z1).mean() + cosine(p1, z0).mean()) / 2
    assert mean_loss(objective, batch) == pytest.approx(expected.item(), rel=1e-9)


def test_the_loss_itself_stops_no_gradient() -> None:
    p, z = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    negative_cosine_similarity(p, z).backward()
    assert p.grad.abs().sum() > 0 and z.grad.abs().sum() > 0


def test_a_vector_of_zeros_is_finite() -> None:
    p = torch.zeros(4, 3, requires_grad=True)
    loss = negative_cosine_similarity(p, torch.ones(4, 3))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(p.grad).all()
