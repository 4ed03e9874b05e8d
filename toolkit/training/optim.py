"""Optimisers and what they decay."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn


def build_optimizer(
    module: nn.Module, name: Literal["adamw", "lars"], *, lr: float, weight_decay: float, fused: bool = True
) -> torch.optim.Optimizer:
    """The optimiser of a run, over the parameters of `module` that are trained.

    Args:
        module: Its matrices and kernels decay, its biases and norms do not.
        name: `adamw` (Loshchilov & Hutter 2019, arXiv:1711.05101) with betas (0.9, 0.98), or `lars`.
        lr: Learning rate at the start; the loop sets it at each step.
        weight_decay: Of matrices and kernels.
        fused: AdamW in one pass over the weights, four times as fast on a CPU. Not with a gradient scaler: it would
            skip a step without saying so.
    """
    groups = decay_groups(module, weight_decay)
    if name == "lars":
        return LARS(groups, lr=lr)
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=fused)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices and kernels, none on biases, norms and other vectors."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group of `optimizer` the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes back a `state_dict`, each moment in the memory order of its weight.

    Fused AdamW goes through both as they lie in memory (torch 2.13). The moments of channels-last kernels come out of a
    checkpoint in another order, and would meet the wrong weights without a word.

    Raises:
        ValueError: It belongs to other parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


class LARS(torch.optim.Optimizer):
    """Momentum SGD with a rate of its own for each layer (You, Gitman & Ginsburg 2017, arXiv:1708.03888).

    A matrix or kernel w with gradient g moves along d = g + weight_decay * w, scaled by trust * |w| / |d|; biases
    and norms move as in SGD, as in SimCLR (Chen et al. 2020) and BYOL (Grill et al. 2020). The momentum gathers
    scaled directions, and the learning rate applies to it at the end.

    Args:
        params: Parameters, or groups with a `weight_decay` each.
        lr: Learning rate.
        momentum: Share of the last step that is kept.
        weight_decay: Of groups that name none.
        trust_coefficient: Length of a step relative to the weights, at a learning rate of 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = parameter.grad.add(parameter, alpha=group["weight_decay"])
                if parameter.ndim > 1:
                    length, wanted = direction.norm(), parameter.norm()
                    # Weights or gradients of nothing but zeros have no ratio: they move as in SGD.
                    ratio = torch.where((length > 0) & (wanted > 0), group["trust_coefficient"] * wanted / length, 1.0)
                    direction.mul_(ratio)
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].mul_(group["momentum"]).add_(direction)
                parameter.add_(state["momentum"], alpha=-group["lr"])
        return loss
