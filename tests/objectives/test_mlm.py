import numpy as np
import pytest
import torch

from toolkit.objectives.mlm import MaskedHead, mlm_loss


def test_loss_and_gradients_equal_the_formula_in_float64() -> None:
    rng = np.random.default_rng(0)
    hidden, embeddings, bias = rng.normal(size=(6, 5)), rng.normal(size=(11, 5)), rng.normal(size=11)
    targets = rng.integers(0, 11, 6)

    logits = hidden @ embeddings.T + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(6), targets]).sum()
    residual = probabilities - np.eye(11)[targets]

    tensors = [torch.tensor(array, requires_grad=True) for array in (hidden, embeddings, bias)]
    loss = mlm_loss(*tensors, torch.tensor(targets))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    for tensor, gradient in zip(
        tensors, (residual @ embeddings, residual.T @ hidden, residual.sum(axis=0)), strict=True
    ):
        np.testing.assert_allclose(tensor.grad, gradient, rtol=1e-10, atol=1e-12)


def test_no_masked_tokens_is_a_loss_of_zero() -> None:
    none = torch.empty(0, 5, requires_grad=True)
    loss = mlm_loss(none, torch.ones(11, 5), torch.zeros(11), torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


def test_output_weights_are_the_input_embeddings() -> None:
    embeddings = torch.randn(11, 4, requires_grad=True)
    head = MaskedHead(4, 11)
    head(torch.randn(3, 4), embeddings, torch.tensor([1, 2, 3])).backward()
    assert embeddings.grad.abs().sum() > 0
    assert sum(parameter.numel() for parameter in head.parameters()) == 4 * 4 + 4 + 2 * 4 + 11
