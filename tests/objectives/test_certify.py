"""Certificates hold for every loss, and each check finds what it is there for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from toolkit.objectives import OBJECTIVES, references
from toolkit.objectives.barlow_twins import barlow_twins_loss
from toolkit.objectives.certify import LIMITS, Claim, certify, table
from toolkit.objectives.moco_v3 import in_batch_info_nce_loss

CLAIMS = {claim.name: claim for name in OBJECTIVES for claim in OBJECTIVES.get(name).claims}  # methods may share one
SOUND = next(claim for claim in CLAIMS.values() if claim.loss is in_batch_info_nce_loss)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_loss_has_its_certificate(claim: Claim) -> None:
    assert certify([claim], processes=False)[0].failed == []


def test_every_method_has_a_certificate() -> None:
    assert [name for name in OBJECTIVES if not OBJECTIVES.get(name).claims] == []


@pytest.mark.slow
def test_two_processes_equal_one() -> None:
    deaf = replace(SOUND, loss=deaf_loss)
    *sound, broken = certify([*CLAIMS.values(), deaf])
    assert all(one.failed == [] and one.errors["2 processes"] is not None for one in sound)
    assert broken.failed == ["2 processes"]
    assert "deaf_loss" in table([broken]) and "FAILED" in table([broken])


def deaf_loss(query: torch.Tensor, key: torch.Tensor, temperature: float, *, gather: bool = False) -> torch.Tensor:
    """Does not gather."""
    return in_batch_info_nce_loss(query, key, temperature)


def logits(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature


def coarse_loss(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    """In whatever precision comes in."""
    return F.cross_entropy(logits(query, key, temperature), torch.arange(len(query)))


def raw_loss(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    """Exponentials that overflow."""
    wide = torch.promote_types(query.dtype, torch.float32)
    raw = logits(query.to(wide), key.to(wide), temperature).exp()
    return -(raw.diagonal() / raw.sum(dim=1)).log().mean()


def stopped_loss(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    """Detaches."""
    return in_batch_info_nce_loss(query, key * 0 + key.detach(), temperature)


def summed_loss(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    """Right for six samples alone."""
    return in_batch_info_nce_loss(query, key, temperature) * len(query) / 6


def refusing_loss(query: torch.Tensor, key: torch.Tensor, temperature: float) -> torch.Tensor:
    """Raises at one sample, as batch norm does."""
    return in_batch_info_nce_loss(F.batch_norm(query, None, None, training=True), key, temperature)


@pytest.mark.parametrize(
    ("loss", "check"),
    [
        (coarse_loss, "half precision"),
        (raw_loss, "temperature 1e-3"),
        (stopped_loss, "gradient"),
        (summed_loss, "partial batch"),
        (refusing_loss, "partial batch"),
        (lambda q, k, temperature: in_batch_info_nce_loss(q, k, 2 * temperature), "value"),
    ],
)
def test_a_check_finds_its_trouble(loss: object, check: str) -> None:
    assert check in certify([replace(SOUND, loss=loss)], processes=False)[0].failed


def test_a_collapse_constant_that_is_not_reached_is_found() -> None:
    """Batch norm whose tiny epsilon takes rounding for variation, in float32."""

    def careless(z0: torch.Tensor, z1: torch.Tensor, lambda_param: float) -> torch.Tensor:
        a, b = ((z - z.mean(0)) / (z.std(0, unbiased=False) + 1e-12) for z in (z0 + 0.1, z1 + 0.1))
        c = a.T @ b / len(a)
        return (1 - c.diagonal()).square().sum() + lambda_param * (c.square().sum() - c.diagonal().square().sum())

    claim = next(claim for claim in CLAIMS.values() if claim.loss is barlow_twins_loss)
    assert "collapse" in certify([replace(claim, loss=careless)], processes=False)[0].failed


def test_nothing_is_claimed_where_nothing_applies() -> None:
    claim = Claim(lambda a, b: (a * b).sum(dim=1).mean(), lambda a, b: float((a * b).sum(axis=1).mean()))
    errors = certify([claim], processes=False)[0].errors
    assert errors["temperature 1e-3"] is errors["collapse"] is errors["2 processes"] is None
    assert list(errors) == list(LIMITS)


def test_references_know_known_values() -> None:
    a, b = np.eye(2), np.eye(2)
    assert references.in_batch_info_nce(a, b, 1.0) == pytest.approx(math.log(1 + math.exp(-1)))
    assert references.info_nce(a, b, np.array([[0.0, 1.0], [1.0, 0.0]]), 1.0) == pytest.approx(
        math.log(2 * math.e + 1) - 1
    )
    assert references.negative_cosine(a, -b) == 1
    assert references.swapped_prediction(np.zeros((3, 4)), np.full((3, 4), 0.25), 0.1) == pytest.approx(math.log(4))
