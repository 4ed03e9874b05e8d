"""SimCLR: its loss beyond what the certificate says, and what its step holds."""

import numpy as np
import pytest
import torch

from tests.objectives.examples import tiny, tiny_batch
from toolkit.objectives import references
from toolkit.objectives.simclr import SimCLRConfig, nt_xent_loss


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_value_equals_the_formula(temperature: float, n: int) -> None:
    z0, z1 = references.two_views(np.random.default_rng(0), n, 5)
    expected = references.nt_xent(z0, z1, temperature)
    found = nt_xent_loss(torch.tensor(z0), torch.tensor(z1), temperature).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_length_of_the_vectors_does_not_matter() -> None:
    z0, z1 = (torch.tensor(z) for z in references.two_views(np.random.default_rng(0), 6, 5))
    assert nt_xent_loss(z0 * 7, z1 * 0.1, 0.2).item() == pytest.approx(nt_xent_loss(z0, z1, 0.2).item(), rel=1e-9)


def test_the_step_holds_the_sum_over_all_views() -> None:
    objective = tiny(SimCLRConfig(hidden_dim=8, projection_dim=4))
    batch = tiny_batch(5)
    step = objective(batch)
    z = [z.detach().numpy() for z in objective.embed(batch)]
    assert step.count == 10
    assert (step.loss_sum / step.count).item() == pytest.approx(references.nt_xent(*z, 0.2), rel=1e-9)
    assert step.embeddings.shape == (5, 4)
    step.loss_sum.backward()
    assert objective.encoder.linear.weight.grad.abs().sum() > 0
