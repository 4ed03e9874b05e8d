"""Copies that follow: what they start as, how they move, and that nothing else moves them."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.objectives.examples import LinearEncoder, tiny, tiny_batch
from toolkit.objectives import OBJECTIVES
from toolkit.objectives.heads import mlp_head
from toolkit.objectives.momentum import MomentumCopy, cosine_momentum

WITH_A_COPY = [name for name in OBJECTIVES if "momentum" in OBJECTIVES.get(name).Config.model_fields]


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return LinearEncoder().double(), mlp_head(6, [5], 4).double()


def test_it_starts_as_an_exact_copy_with_buffers_and_gets_no_gradient() -> None:
    encoder, head = networks()
    head(torch.randn(9, 6, dtype=torch.float64))  # moves the running statistics of batch norm
    slow = MomentumCopy(encoder, head)
    expected = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    expected |= {f"head.{k}": v for k, v in head.state_dict().items()}
    assert slow.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in slow.state_dict().items())
    assert not any(p.requires_grad for p in slow.parameters())
    assert not slow(torch.randn(4, 8, dtype=torch.float64)).requires_grad
    assert all(p.data_ptr() != q.data_ptr() for p, q in zip(slow.head.parameters(), head.parameters(), strict=True))


def test_each_weight_moves_by_the_formula() -> None:
    encoder, head = networks()
    slow = MomentumCopy(encoder, head)
    before = copy.deepcopy(slow)
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *head.parameters()):
            parameter.add_(1)
    slow.update(encoder, head, 0.9)
    fast = [*encoder.parameters(), *head.parameters()]
    for new, old, target in zip(slow.parameters(), before.parameters(), fast, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * target)


def test_the_momentum_rises_from_its_base_to_one() -> None:
    assert cosine_momentum(0.9, 0) == pytest.approx(0.9)
    assert cosine_momentum(0.9, 0.5) == pytest.approx(0.95)
    assert cosine_momentum(0.9, 1) == 1
    assert cosine_momentum(0.9, 0.25) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


@pytest.mark.parametrize("name", WITH_A_COPY)
def test_a_method_moves_its_copy_by_its_schedule_and_trains_all_else(name: str) -> None:
    objective = tiny(OBJECTIVES.get(name).Config())
    before = copy.deepcopy(objective.momentum)
    step = objective(tiny_batch(6))
    step.loss_sum.backward()
    assert all(p.grad is None for p in objective.momentum.parameters())
    trained = [n for n, p in objective.named_parameters() if p.grad is None]
    assert all(n.startswith("momentum.") for n in trained)
    with torch.no_grad():
        for parameter in (*objective.encoder.parameters(), *objective.head.parameters()):
            parameter.add_(1)
    objective.after_step(0.5)
    base = objective.config.momentum
    momentum = base if name == "moco" else (1 + base) / 2  # MoCo v2's is constant
    fast = [*objective.encoder.parameters(), *objective.head.parameters()]
    for new, old, target in zip(objective.momentum.parameters(), before.parameters(), fast, strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * target)


@pytest.mark.parametrize("name", [name for name in WITH_A_COPY if name != "moco"])  # whose copy sees the other view
def test_the_views_are_put_side_by_side_once_for_both_networks(name: str) -> None:
    objective, seen = tiny(OBJECTIVES.get(name).Config()), []
    for encoder in (objective.encoder, objective.momentum.encoder):
        encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    objective.embed(tiny_batch(6))
    assert len(seen) == 2 and seen[0] is seen[1]


@pytest.mark.parametrize("name", [*WITH_A_COPY, "simsiam", "swav"])
def test_no_gradient_reaches_targets_keys_and_codes(name: str) -> None:
    """In portions, all that was embedded asks for a gradient: the loss itself must refuse it."""
    objective = tiny(OBJECTIVES.get(name).Config())
    z = tuple(part.detach().requires_grad_() for part in objective.embed(tiny_batch(6)))
    gradients = torch.autograd.grad(objective.loss(z), z, allow_unused=True)
    trained = {"moco": [0], "moco_v3": [0, 1], "byol": [2, 3], "simsiam": [2, 3], "swav": [2, 3]}[name]
    assert [i for i, gradient in enumerate(gradients) if gradient is not None] == trained
