"""LARS against its formula in NumPy; what decays."""

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.training.checkpoints import copied
from toolkit.training.optim import LARS, build_optimizer, decay_groups, load_optimizer_state


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))


def test_only_matrices_decay() -> None:
    matrices, vectors = decay_groups(network(), 0.1)
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert len(matrices["params"]) == 2 and len(vectors["params"]) == 4


def test_what_is_frozen_is_left_out() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    assert [len(group["params"]) for group in build_optimizer(net, "lars", lr=1, weight_decay=0).param_groups] == [1, 4]


def test_lars_is_the_papers_formula() -> None:
    rng = np.random.default_rng(0)
    matrix, bias, zeros = rng.normal(size=(3, 5)), rng.normal(size=5), np.zeros((2, 2))
    parameters = [nn.Parameter(torch.tensor(value)) for value in (matrix, bias, zeros)]
    groups = [{"params": [parameters[0], parameters[2]], "weight_decay": 0.1}, {"params": [parameters[1]]}]
    optimizer = LARS(groups, lr=0.5, momentum=0.8, trust_coefficient=0.02)
    moved = [np.zeros_like(value) for value in (matrix, bias, zeros)]
    for step in range(4):
        if step == 2:  # the state survives being saved
            state = optimizer.state_dict()
            optimizer = LARS(groups, lr=0.5, momentum=0.8, trust_coefficient=0.02)
            optimizer.load_state_dict(state)
        lr = 0.5 / (1 + step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        gradients = [rng.normal(size=value.shape) for value in (matrix, bias, zeros)]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
        for i, value in enumerate((matrix, bias, zeros)):
            direction = gradients[i] + (0.1 * value if i != 1 else 0)
            if i != 1 and np.linalg.norm(value) > 0:
                direction = direction * 0.02 * np.linalg.norm(value) / np.linalg.norm(direction)
            moved[i] = 0.8 * moved[i] + direction
            value -= lr * moved[i]
            np.testing.assert_allclose(parameters[i].detach().numpy(), value, rtol=1e-12)


def test_lars_survives_a_gradient_of_zeros() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.zeros(2, 2)
    LARS([parameter], lr=1).step()
    assert torch.equal(parameter, torch.ones(2, 2))


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_is_the_papers_formula(fused: bool) -> None:
    rng = np.random.default_rng(1)
    net = nn.Linear(3, 2).double()
    values = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    moments = {name: [np.zeros_like(value), np.zeros_like(value)] for name, value in values.items()}
    optimizer = build_optimizer(net, "adamw", lr=0.1, weight_decay=0.3, fused=fused)
    for step in range(1, 5):
        if step == 3:  # the state survives being saved
            state = optimizer.state_dict()
            optimizer = build_optimizer(net, "adamw", lr=0.1, weight_decay=0.3, fused=fused)
            optimizer.load_state_dict(state)
        for name, parameter in net.named_parameters():
            gradient = rng.normal(size=parameter.shape)
            parameter.grad = torch.tensor(gradient)
            first, second = moments[name]
            first[:] = 0.9 * first + 0.1 * gradient
            second[:] = 0.98 * second + 0.02 * gradient**2
            move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.98**step)) + 1e-8)
            values[name] -= 0.1 * (move + (0.3 * values[name] if name == "weight" else 0))
        optimizer.step()
        for name, parameter in net.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), values[name], rtol=1e-12)


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_moments_of_channels_last_kernels_survive_a_checkpoint(name: str) -> None:
    """Fused AdamW does not look at how a moment lies in memory."""

    def steps(reload: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        kernel = nn.Conv3d(3, 4, 2).to(memory_format=torch.channels_last_3d).weight
        kernel.data.copy_(torch.randn(kernel.shape, generator=generator))
        module = nn.ParameterList([kernel])
        optimizer = build_optimizer(module, name, lr=0.1, weight_decay=0.0)  # type: ignore[arg-type]
        for number in range(4):
            if reload and number == 3:
                load_optimizer_state(optimizer, copied(optimizer.state_dict()))
            module[0].grad = torch.randn(kernel.shape, generator=generator).to(memory_format=torch.channels_last_3d)
            optimizer.step()
        return module[0].detach()

    assert torch.equal(steps(True), steps(False))
