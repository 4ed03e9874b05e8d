"""Texts of which some tokens are kept."""

import torch
from torch import Tensor


def kept_tokens(ids_BT: Tensor, kept_BT: Tensor, pad_id: int, longest: int | None = None) -> dict[str, Tensor]:
    """The kept tokens of each row, moved up to its start.

    Args:
        ids_BT: Token ids.
        kept_BT: Which are kept.
        pad_id: What rows end in that keep fewer.
        longest: The most tokens that a row keeps, where that is known: a GPU is waited for otherwise.

    Returns:
        `input_ids` and `attention_mask`, both (B, longest): a batch for an encoder.
    """
    longest = int(kept_BT.sum(dim=1).max()) if longest is None else longest
    order = torch.argsort((~kept_BT).long(), dim=1, stable=True)[:, :longest]
    mask_BT = kept_BT.gather(1, order)
    return {
        "input_ids": torch.where(mask_BT, ids_BT.gather(1, order), pad_id),
        "attention_mask": mask_BT.long(),
    }
