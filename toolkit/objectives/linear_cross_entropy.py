"""Cross-entropy over a vocabulary without the matrix of all logits.

With 250,000 pieces, the logits of 4,000 masked tokens are 4 GB, twice over with their gradient. Here those of some rows
at a time are computed, their gradient is taken at once, and they are forgotten, as in Liger (Hsu et al. 2024,
arXiv:2410.10989): three products of matrices, none of them made twice. `torch.nn.functional.linear_cross_entropy` does
the same from torch 2.13 on, but adds up half-precision losses in half precision and draws no tokens.
"""

from typing import Any

import torch
from torch import Tensor

LOGITS_AT_ONCE = 2**23
"""Entries of a portion's logits: 32 MB in float32. Each portion reads and writes the vocabulary's gradient once; with
half or twice as many the time was within 5 %, at 32,000 and at 250,000 pieces (one busy CPU core)."""


def linear_cross_entropy(
    hidden_ME: Tensor,
    embeddings_VE: Tensor,
    bias_V: Tensor,
    targets_M: Tensor,
    *,
    coins_M: Tensor | None = None,
    products: torch.dtype | None = None,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `hidden @ embeddings.T + bias`, summed, and a token drawn from each distribution.

    Its backward pass can be called once, as it hands over the gradients that the forward pass made.

    Args:
        hidden_ME: (M, E).
        embeddings_VE: (V, E).
        bias_V: (V,).
        targets_M: True ids, (M,).
        coins_M: Uniform draws in [0, 1), (M,); no tokens are drawn without.
        products: In which type matrices are multiplied; sums and the softmax are at least float32 in any case. That of
            `hidden_ME`, and at least float32, if not given.
        logits_at_once: Entries of the largest portion of logits.

    Returns:
        The loss, a scalar that is at least float32, and the drawn ids (M,), or none.
    """
    trains = torch.is_grad_enabled()  # within, it is always off
    return _LinearCrossEntropy.apply(
        hidden_ME, embeddings_VE, bias_V, targets_M, coins_M, products, logits_at_once, trains
    )


def autocast_products(like: Tensor) -> torch.dtype | None:
    """The type in which autocast has matrices multiplied on the device of `like`; none outside of autocast."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ME: Tensor,
        embeddings_VE: Tensor,
        bias_V: Tensor,
        targets_M: Tensor,
        coins_M: Tensor | None,
        products: torch.dtype | None,
        logits_at_once: int,
        trains: bool,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_ME.dtype, torch.float32)
        products = products or wide
        hidden, embeddings, bias = (t.to(products) for t in (hidden_ME, embeddings_VE, bias_V))
        wanted = [trains and needed for needed in ctx.needs_input_grad[:3]]
        of_hidden = torch.empty_like(hidden_ME, dtype=wide) if wanted[0] else None
        of_embeddings = torch.zeros_like(embeddings_VE, dtype=wide) if wanted[1] else None
        of_bias = torch.zeros_like(bias_V, dtype=wide) if wanted[2] else None
        loss = hidden_ME.new_zeros((), dtype=wide)
        drawn_M = torch.empty_like(targets_M) if coins_M is not None else targets_M.new_empty(0)
        num_rows = max(1, logits_at_once // len(embeddings))
        with torch.autocast(hidden_ME.device.type, enabled=False):
            for start in range(0, len(hidden), num_rows):
                rows = slice(start, start + num_rows)
                true_C1 = targets_M[rows, None]
                logits_CV = torch.addmm(bias, hidden[rows], embeddings.T).to(wide)
                shares_CV = logits_CV.softmax(dim=1)
                # The largest share is exp(largest logit - log of the sum), and never so small that its log is lost.
                log_sum_C1 = logits_CV.amax(dim=1, keepdim=True) - shares_CV.amax(dim=1, keepdim=True).log()
                loss += (log_sum_C1 - logits_CV.gather(1, true_C1)).sum()
                if coins_M is not None:
                    drawn_M[rows] = _drawn(shares_CV, coins_M[rows], out=logits_CV)
                if not any(wanted):
                    continue
                shares_CV.scatter_add_(1, true_C1, torch.full_like(true_C1, -1, dtype=wide))
                residual_CV = shares_CV.to(products)
                if of_hidden is not None:
                    of_hidden[rows] = residual_CV @ embeddings
                if of_embeddings is not None:
                    if products == wide:
                        of_embeddings.addmm_(residual_CV.T, hidden[rows])
                    else:
                        of_embeddings += residual_CV.T @ hidden[rows]
                if of_bias is not None:
                    of_bias += shares_CV.sum(dim=0)
        ctx.gradients = [of_hidden, of_embeddings, of_bias]
        ctx.dtypes = [hidden_ME.dtype, embeddings_VE.dtype, bias_V.dtype]
        ctx.mark_non_differentiable(drawn_M)
        return loss, drawn_M

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("linear_cross_entropy: the backward pass was called twice")
        scaled = [
            None if gradient is None else gradient.mul_(of_loss).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None, None


def _drawn(shares_CV: Tensor, coins_C: Tensor, out: Tensor) -> Tensor:
    """The first token at which the shares add up to more than the coin."""
    sums_CV = torch.cumsum(shares_CV, dim=1, out=out)
    reached_C1 = coins_C[:, None].to(sums_CV) * sums_CV[:, -1:]
    return torch.searchsorted(sums_CV, reached_C1, right=True).squeeze(1).clamp(max=sums_CV.shape[1] - 1)
