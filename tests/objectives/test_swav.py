import numpy as np
import pytest
import torch

from tests.objectives.examples import tiny, tiny_batch
from toolkit.objectives.swav import SwAVConfig, sinkhorn, swapped_prediction_loss

SCORES = np.random.default_rng(0).uniform(-1, 1, size=(12, 5))


def loop(scores: np.ndarray, epsilon: float, num_iterations: int) -> np.ndarray:
    """Listing A.1 of Caron et al. 2020 in NumPy: prototypes by samples, levelled in turn."""
    q = np.exp(scores.T / epsilon)
    q /= q.sum()
    for _ in range(num_iterations):
        for k in range(q.shape[0]):
            q[k] *= 1 / (q.shape[0] * q[k].sum())
        for b in range(q.shape[1]):
            q[:, b] *= 1 / (q.shape[1] * q[:, b].sum())
    return (q / q.sum(axis=0)).T


@pytest.mark.parametrize("num_iterations", [1, 3, 20])
def test_sinkhorn_equals_the_loop(num_iterations: int) -> None:
    found = sinkhorn(torch.tensor(SCORES), 0.05, num_iterations).numpy()
    np.testing.assert_allclose(found, loop(SCORES, 0.05, num_iterations), rtol=1e-10)


def test_samples_are_whole_and_prototypes_equally_used() -> None:
    codes = sinkhorn(torch.tensor(SCORES), 0.05, 500)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((5,), 12 / 5, dtype=torch.float64), rtol=1e-6, atol=0)


def test_sinkhorn_is_finite_where_exponentials_overflow() -> None:
    codes = sinkhorn(torch.tensor(SCORES).float(), 1e-3)
    assert torch.isfinite(codes).all() and codes.dtype == torch.float32


def train(objective: torch.nn.Module, progress: float) -> None:
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    step = objective(tiny_batch(8))
    step.loss_sum.backward()
    optimizer.step()
    objective.after_step(progress)


def test_prototypes_stay_on_the_sphere_and_are_still_at_the_start() -> None:
    objective = tiny(SwAVConfig(num_prototypes=4, freeze_fraction=0.2))
    objective.after_step(0.0)  # float64 unit vectors
    started = objective.prototypes.weight.detach().clone()
    train(objective, 0.1)
    torch.testing.assert_close(objective.prototypes.weight.detach(), started, rtol=0, atol=1e-15)
    train(objective, 0.2)  # the last of the frozen steps
    torch.testing.assert_close(objective.prototypes.weight.detach(), started, rtol=0, atol=1e-15)
    train(objective, 0.3)
    moved = objective.prototypes.weight.detach()
    assert not torch.allclose(moved, started)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_each_view_predicts_the_others_codes() -> None:
    objective, batch = tiny(SwAVConfig(num_prototypes=4)), tiny_batch(8)
    z0, z1, scores0, scores1 = objective.embed(batch)
    torch.testing.assert_close(z0.norm(dim=1), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(scores1, z1 @ objective.prototypes.weight.T)
    codes = [torch.tensor(loop(scores.detach().numpy(), 0.05, 3)) for scores in (scores0, scores1)]
    expected = swapped_prediction_loss(scores0, codes[1], 0.1) + swapped_prediction_loss(scores1, codes[0], 0.1)
    step = objective(batch)
    assert (step.loss_sum / step.count).item() == pytest.approx(expected.item() / 2, rel=1e-9)
    # Codes are targets: no gradient went through Sinkhorn.
    gradients = [
        torch.autograd.grad(loss, scores0)[0] for loss in (objective.loss((z0, z1, scores0, scores1)), expected / 2)
    ]
    torch.testing.assert_close(*gradients)


def test_entropies_of_the_codes_are_logged() -> None:
    objective = tiny(SwAVConfig(num_prototypes=4))
    logs = objective(tiny_batch(8)).logs
    assert 0 < logs["teacher_entropy"] < 1 and 0.9 < logs["teacher_mean_entropy"] <= 1
    with torch.no_grad():  # prototypes that are all alike: the collapse that levelling hides from the mean
        objective.prototypes.weight.copy_(objective.prototypes.weight[:1].expand(4, -1))
    assert objective(tiny_batch(8)).logs["teacher_entropy"] == pytest.approx(1, abs=1e-6)
