"""Collapse monitors against their closed forms."""

import numpy as np
import pytest
import torch

from toolkit.training import alignment, effective_rank, embedding_std, uniformity


def test_all_show_exact_collapse() -> None:
    collapsed = torch.ones(32, 8)
    assert embedding_std(collapsed).item() == pytest.approx(0, abs=1e-9)
    assert effective_rank(collapsed).item() == 0
    assert uniformity(collapsed).item() == pytest.approx(0, abs=1e-6)
    assert alignment(collapsed, 3 * collapsed).item() == pytest.approx(0, abs=1e-12)


def test_spread_of_an_isotropic_cloud_is_one() -> None:
    cloud = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert embedding_std(cloud).item() == pytest.approx(1, abs=0.01)


def test_effective_rank_counts_equal_directions() -> None:
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(corners).item() == pytest.approx(5)


def test_uniformity_and_alignment_match_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12, 4))
    a_unit, b_unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    squared = ((a_unit[:, None] - a_unit[None]) ** 2).sum(-1)[np.triu_indices(12, 1)]
    assert uniformity(torch.tensor(a)).item() == pytest.approx(np.log(np.exp(-2 * squared).mean()), abs=1e-5)
    assert alignment(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(((a_unit - b_unit) ** 2).sum(1).mean())
