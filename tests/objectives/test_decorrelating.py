"""Barlow Twins and VICReg: the two forms of each, and what does not vary."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from toolkit.objectives import references
from toolkit.objectives.barlow_twins import barlow_twins_loss
from toolkit.objectives.vicreg import vicreg_loss

VIEWS = references.two_views(np.random.default_rng(0), 64, 16)
TENSORS = tuple(torch.tensor(view) for view in VIEWS)


def test_vicreg_as_the_text_has_it_is_another_weighing() -> None:
    expected = references.vicreg_as_written(*VIEWS, 25 / 16, 12.5, 1)
    assert vicreg_loss(*TENSORS, 25, 25, 1).item() == pytest.approx(expected, rel=1e-12)
    assert references.vicreg_as_written(*VIEWS, 25, 25, 1) > 2 * expected


def test_each_weight_of_vicreg_weighs_its_own_term() -> None:
    z = torch.randn(64, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert vicreg_loss(z, z, 7, 0, 0).item() == 0
    assert vicreg_loss(z, z + 1, 7, 0, 0).item() == pytest.approx(7)
    assert vicreg_loss(3 * z, 3 * z, 0, 7, 0).item() == 0  # deviations above 1
    twins = z[:, :1].expand(64, 2)
    assert vicreg_loss(twins, twins, 0, 0, 7).item() == pytest.approx(7 * 2 * z[:, 0].var().item() ** 2)


def test_barlow_twins_by_the_authors_batch_norm_is_the_same_but_for_its_epsilon() -> None:
    """`bn(z1).T @ bn(z2) / N` of their code, with their epsilon of 1e-5, and with next to none."""
    for epsilon, tolerance in ((1e-5, 1e-3), (1e-15, 1e-12)):
        z0, z1 = (F.batch_norm(z, None, None, training=True, eps=epsilon) for z in TENSORS)
        c = z0.T @ z1 / 64
        off = c.flatten()[:-1].view(15, 17)[:, 1:]  # without the diagonal, as their code cuts it
        expected = (c.diagonal() - 1).square().sum() + 5e-3 * off.square().sum()
        assert barlow_twins_loss(*TENSORS, 5e-3).item() == pytest.approx(expected.item(), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_feature_that_does_not_vary_is_uncorrelated_and_gets_no_gradient(value: float, dtype: torch.dtype) -> None:
    """Rounding must not count as variation: its correlation with itself would be 1."""
    z0, z1 = (torch.tensor(view, dtype=dtype) for view in VIEWS)
    z0[:, 3], z1[:, 3] = value, value
    z0.requires_grad_()
    loss = barlow_twins_loss(z0, z1, 5e-3)
    loss.backward()
    others = [i for i in range(16) if i != 3]
    expected = 1 + references.barlow_twins(VIEWS[0][:, others], VIEWS[1][:, others], 5e-3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(z0.grad).all() and z0.grad[:, 3].abs().max() == 0
