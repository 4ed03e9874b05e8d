from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.objectives.linear_cross_entropy import linear_cross_entropy

M, V, E = 23, 301, 7


def arrays(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(M, E), (V, E), (V,)]
    varied = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    return *varied, torch.randint(V, (M,), generator=generator)


def plain(hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, embeddings, bias), targets, reduction="sum")


@pytest.mark.parametrize("logits_at_once", [1, 5 * V, 10**9])
def test_portions_give_the_loss_and_gradients_of_the_whole(logits_at_once: int) -> None:
    *varied, targets = arrays()
    loss, _ = linear_cross_entropy(*varied, targets, logits_at_once=logits_at_once)
    expected = plain(*varied, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for found, wanted in zip(
        torch.autograd.grad(3 * loss, varied), torch.autograd.grad(3 * expected, varied), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


class Largest(TorchDispatchMode):
    """Which operations there are, and the entries of the largest tensor that any gives."""

    def __init__(self) -> None:
        super().__init__()
        self.entries, self.operations = 0, set[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        self.operations.add(func)
        for one in given if isinstance(given, (tuple, list)) else [given]:
            if isinstance(one, Tensor):
                self.entries = max(self.entries, one.numel())
        return given


def test_the_matrix_of_all_logits_is_never_there() -> None:
    *varied, targets = arrays()
    coins = torch.rand(M)
    with Largest() as seen:
        loss, _ = linear_cross_entropy(*varied, targets, coins_M=coins, logits_at_once=4 * V)
        loss.backward()
    assert seen.entries == V * E  # the embeddings, and their gradient
    with Largest() as seen:
        plain(*varied, targets).backward()
    assert seen.entries == M * V


def test_a_confident_and_a_hopeless_model_are_finite() -> None:
    embeddings = torch.eye(5)
    for scale in (1e3, -1e3):
        hidden = (scale * torch.eye(5)[:2]).requires_grad_()
        loss, _ = linear_cross_entropy(hidden, embeddings, torch.zeros(5), torch.tensor([0, 1]))
        loss.backward()
        expected = plain(hidden.double(), embeddings.double(), torch.zeros(5).double(), torch.tensor([0, 1]))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
        assert torch.isfinite(hidden.grad).all()


def test_a_backward_pass_needs_a_forward_pass() -> None:
    *varied, targets = arrays()
    loss, _ = linear_cross_entropy(*varied, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="called twice"):
        loss.backward()


def test_only_what_is_trained_gets_a_gradient() -> None:
    hidden, embeddings, bias, targets = arrays()
    linear_cross_entropy(hidden, embeddings.detach(), bias.detach(), targets)[0].backward()
    assert hidden.grad is not None and embeddings.grad is None and bias.grad is None
    assert not linear_cross_entropy(hidden.detach(), embeddings.detach(), bias.detach(), targets)[0].requires_grad
    with torch.no_grad(), Largest() as seen:
        linear_cross_entropy(hidden, embeddings, bias, targets)
    assert torch.ops.aten.zeros_like.default not in seen.operations
    with Largest() as seen:
        linear_cross_entropy(hidden, embeddings, bias, targets)
    assert torch.ops.aten.zeros_like.default in seen.operations


def test_products_in_half_precision_are_summed_in_full() -> None:
    *varied, targets = arrays(torch.float32)
    loss, _ = linear_cross_entropy(*varied, targets, products=torch.bfloat16, logits_at_once=4 * V)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(*varied, targets), rtol=1e-2, atol=0)
    gradients = torch.autograd.grad(loss, varied)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    expected = torch.autograd.grad(plain(*varied, targets), varied)
    assert all((g - e).norm() < 0.02 * e.norm() for g, e in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("logits_at_once", [1, 10**9])
def test_a_coin_draws_the_token_at_which_the_shares_pass_it(logits_at_once: int) -> None:
    *varied, targets = arrays()
    hidden, embeddings, bias = (t.detach() for t in varied)
    coins = torch.linspace(0, 1, M + 1, dtype=torch.float64)[:-1]
    _, drawn = linear_cross_entropy(hidden, embeddings, bias, targets, coins_M=coins, logits_at_once=logits_at_once)
    shares = F.linear(hidden, embeddings, bias).softmax(dim=1).numpy()
    sums, coins = np.cumsum(shares, axis=1), coins.numpy()
    assert drawn.tolist() == [np.searchsorted(row, coin, side="right") for row, coin in zip(sums, coins, strict=True)]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    bias = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    coins = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    hidden, targets = torch.zeros(20_000, 2), torch.zeros(20_000, dtype=torch.long)
    _, drawn = linear_cross_entropy(hidden, torch.zeros(4, 2), bias, targets, coins_M=coins)
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.1, 0.2, 0.3, 0.4], atol=0.01)
