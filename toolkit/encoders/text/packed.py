"""Several texts in one row, none of which sees another: by a mask, or by attention that knows where texts end."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

VARLEN = "fewlabel_varlen"
"""What transformers knows `varlen_attention` as."""
BOOLEAN_MASKS = ("sdpa", VARLEN)
"""Kinds of attention whose masks say whether; the others' are added to the scores."""


def packed_mask(batch: Mapping[str, Tensor], *, causal: bool = False) -> Tensor:
    """Which tokens see which.

    Args:
        batch: With `documents` (B, T), the number of each token's text, -1 for padding; or with `attention_mask` alone.
        causal: Whether a token sees nothing behind it.

    Returns:
        (B, 1, T, T), True where a token sees another; padding sees padding, since a row of the softmax must not be
        empty. Where no texts are packed, `attention_mask` as it is.
    """
    documents = batch.get("documents")
    if documents is None:
        return batch["attention_mask"]
    mask_B1TT = (documents[:, :, None] == documents[:, None, :])[:, None]
    return mask_B1TT.tril() if causal else mask_B1TT


def attention_inputs(
    batch: Mapping[str, Tensor], model: PreTrainedModel, *, causal: bool, first_position: int
) -> dict[str, Any]:
    """What a model of transformers takes besides `input_ids`, for a batch that is packed or not.

    Args:
        batch: With `attention_mask`; if packed, with `documents`, `position_ids` and `boundaries`.
        model: Where the batch goes.
        causal: Whether a token sees nothing behind it.
        first_position: The position id of a text's first token, where `position_ids` say 0.
    """
    inputs: dict[str, Any] = {}
    if "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"] + first_position
    if "documents" in batch and knows_boundaries(model):
        width, boundaries = batch["documents"].shape[1], batch["boundaries"]
        lengths = {"cu_seq_lens_q": boundaries, "cu_seq_lens_k": boundaries}
        return inputs | lengths | {"max_length_q": width, "max_length_k": width, "attention_mask": None}
    mask = packed_mask(batch, causal=causal)
    if mask.ndim == 4:
        mask = _per_layer(mask, model)
    return inputs | {"attention_mask": mask}


def knows_boundaries(model: PreTrainedModel) -> bool:
    """Whether attention can be told where texts end, and needs no mask.

    So it is with flash attention, and with torch's own (`varlen_attn`) on a GPU in half precision, without dropout of
    attention; a model with the default attention is switched to the latter.
    """
    config = model.config
    if config._attn_implementation == "sdpa" and _varlen_serves(model):
        model.set_attn_implementation(VARLEN)
    if config._attn_implementation == VARLEN:
        return _varlen_serves(model)
    return "flash_attention" in config._attn_implementation


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention within texts that lie end to end, as transformers calls it; with a mask, the usual one.

    Args:
        module: The layer.
        query: (B, heads, T, D), as are key and value.
        key: See `query`.
        value: See `query`.
        attention_mask: Where the batch is not packed.
        cu_seq_lens_q: Where texts begin among the B * T tokens, and the end.
        max_length_q: No text is longer.
        scaling: Of the scores.
        sliding_window: How far a token sees to either side, plus one.
        **others: What the usual attention takes.

    Returns:
        (B, T, heads, D), and no weights.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    reach = -1 if sliding_window is None else sliding_window - 1
    forward = 0 if getattr(module, "is_causal", False) else reach
    out = varlen_attn(
        *flat,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(reach, forward),
    )
    batch, heads, length, width = query.shape
    return out.view(batch, length, heads, width), None


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, sdpa_mask)


def _varlen_serves(model: PreTrainedModel) -> bool:
    """Without dropout of attention, and in half precision on a GPU that has the kernel (Ampere or newer)."""
    device = model.device
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device)[0] < 8:
        return False
    config = model.config
    dropout = getattr(config, "attention_probs_dropout_prob", getattr(config, "attention_dropout", 0.0))
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else model.dtype
    return kind in (torch.float16, torch.bfloat16) and not (model.training and dropout)


def _per_layer(mask_B1TT: Tensor, model: PreTrainedModel) -> Tensor | dict[str, Tensor]:
    """The mask in the form that the model's attention takes; ModernBERT has layers that see a window only."""
    window = getattr(model.config, "sliding_window", None) if model.config.model_type == "modernbert" else None
    if window is None:
        return _in_form(mask_B1TT, model)
    places = torch.arange(mask_B1TT.shape[-1], device=mask_B1TT.device)
    near = (places[:, None] - places).abs() <= window
    masks = {"full_attention": mask_B1TT, "sliding_attention": mask_B1TT & near}
    return {name: _in_form(mask, model) for name, mask in masks.items()}


def _in_form(mask_B1TT: Tensor, model: PreTrainedModel) -> Tensor:
    if mask_B1TT.dtype != torch.bool or model.config._attn_implementation in BOOLEAN_MASKS:
        return mask_B1TT
    zeros = torch.zeros(mask_B1TT.shape, dtype=model.dtype, device=mask_B1TT.device)
    return zeros.masked_fill(~mask_B1TT, torch.finfo(model.dtype).min)
