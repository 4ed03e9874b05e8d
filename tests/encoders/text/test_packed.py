"""A text sees the same whether it has a row of its own or shares one."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.encoders.text import TextEncoder, TextEncoderConfig, packed
from toolkit.encoders.text.packed import VARLEN, packed_mask
from toolkit.text import MaskedBatches, MaskingConfig, TokenStore
from toolkit.text.tokenizer import TextTokenizer

WIDTH = 200
"""Tokens a row: ModernBERT's local layers see 64 to either side."""


def encoder_of(tokenizer: TextTokenizer, architecture: str, **settings: Any) -> TextEncoder:
    config = TextEncoderConfig(
        architecture=architecture, num_layers=4, hidden_size=16, num_heads=2, max_length=WIDTH, dropout=0.0, **settings
    )  # type: ignore[arg-type]
    encoder = TextEncoder.from_scratch(config, tokenizer)
    with torch.no_grad():
        for parameter in encoder.model.parameters():  # far from where attention is level
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return encoder.eval()


def batch_of(tokenizer: TextTokenizer, texts: list[str]) -> dict[str, Tensor]:
    """Three rows, with a text of a whole row, and short ones."""
    long = " ".join(texts)
    store = TokenStore.build([long, *texts], ["en"] * (len(texts) + 1), tokenizer, WIDTH)
    batches = MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=3, seed=0, packed=True)
    batch = batches.batch(0)
    assert len(batch["languages"]) > 4 and (batch["documents"] < 0).any()
    return batch


def alone(encoder: TextEncoder, batch: dict[str, Tensor]) -> list[Tensor]:
    """Hidden states of each text in a row of its own."""
    found = []
    for number in range(len(batch["languages"])):
        ids = batch["input_ids"][batch["documents"] == number][None]
        found.append(encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).last[0])
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert", "electra"])
@torch.inference_mode()
def test_hidden_states_are_those_of_each_text_alone(
    tokenizer: TextTokenizer, texts: list[str], architecture: str, attention: str
) -> None:
    encoder, batch = encoder_of(tokenizer, architecture, attn_implementation=attention), batch_of(tokenizer, texts)
    hidden = encoder(batch).last
    for number, expected in enumerate(alone(encoder, batch)):
        torch.testing.assert_close(hidden[batch["documents"] == number], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "electra"])
@torch.inference_mode()
def test_a_causal_encoder_sees_neither_other_texts_nor_what_follows(
    tokenizer: TextTokenizer, texts: list[str], architecture: str
) -> None:
    encoder, batch = encoder_of(tokenizer, architecture), batch_of(tokenizer, texts)
    encoder.set_causal()
    hidden = encoder(batch).last
    for number, expected in enumerate(alone(encoder, batch)):
        torch.testing.assert_close(hidden[batch["documents"] == number], expected, rtol=1e-4, atol=1e-5)
    changed = batch | {"input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 100:] = tokenizer.special.mask
    torch.testing.assert_close(encoder(changed).last[:, :100], hidden[:, :100])


@torch.inference_mode()
def test_each_text_has_a_vector_of_its_own(tokenizer: TextTokenizer, texts: list[str]) -> None:
    encoder, batch = encoder_of(tokenizer, "bert"), batch_of(tokenizer, texts)
    vectors = encoder.pooled(encoder(batch))
    assert len(vectors) == len(batch["languages"])
    for number, vector in enumerate(vectors):
        ids = batch["input_ids"][batch["documents"] == number][None]
        single = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        torch.testing.assert_close(vector, encoder.pooled(encoder(single))[0], rtol=1e-4, atol=1e-5)


def test_padding_sees_padding_alone_and_a_mask_of_four_dimensions_passes() -> None:
    documents = torch.tensor([[0, 0, 1, -1, -1]])
    mask = packed_mask({"documents": documents})
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[:2, :2] = expected[2, 2] = expected[3:, 3:] = True
    assert torch.equal(mask[0, 0], expected)
    assert torch.equal(packed_mask({"documents": documents}, causal=True)[0, 0], expected.tril())
    plain = torch.ones(2, 3)
    assert packed_mask({"attention_mask": plain}) is plain


@torch.inference_mode()
def test_a_mask_of_four_dimensions_is_taken_as_it_is(tokenizer: TextTokenizer, texts: list[str]) -> None:
    encoder, batch = encoder_of(tokenizer, "bert"), batch_of(tokenizer, texts)
    given = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"]}
    torch.testing.assert_close(encoder(given | {"attention_mask": packed_mask(batch)}).last, encoder(batch).last)


def by_texts(
    query: Tensor, key: Tensor, value: Tensor, begins: Tensor, key_begins: Tensor, longest: int, longest_key: int, *,
    scale: float, window_size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """What torch's `varlen_attn` is said to compute, text by text: it runs on GPUs alone."""
    assert torch.equal(begins, key_begins) and begins.dtype == torch.int32 and longest == longest_key
    assert query.ndim == 3 and begins[0] == 0 and begins[-1] == len(query)
    parts = []
    for begin, end in pairwise(begins.tolist()):
        assert end - begin <= longest
        q, k, v = (tensor[begin:end].transpose(0, 1) for tensor in (query, key, value))
        places = torch.arange(end - begin)
        apart = places - places[:, None]
        before, behind = (end if side < 0 else side for side in window_size)
        mask = (apart >= -before) & (apart <= behind)
        parts.append(F.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize(("architecture", "causal"), [("bert", False), ("bert", True), ("modernbert", False)])
@torch.inference_mode()
def test_attention_that_knows_where_texts_end_gives_the_same(
    tokenizer: TextTokenizer, texts: list[str], architecture: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, batch = encoder_of(tokenizer, architecture), batch_of(tokenizer, texts)
    if causal:
        encoder.set_causal()
    expected = encoder(batch).last
    calls = []

    def kernel(*arguments: Any, **others: Any) -> Tensor:
        calls.append(others["window_size"])
        return by_texts(*arguments, **others)

    monkeypatch.setattr(packed, "varlen_attn", kernel)
    monkeypatch.setattr(packed, "_varlen_serves", lambda model: True)
    found = encoder(batch).last
    assert encoder.model.config._attn_implementation == VARLEN and len(calls) == 4
    in_text = batch["documents"] >= 0
    torch.testing.assert_close(found[in_text], expected[in_text], rtol=1e-4, atol=1e-5)
    # Batches that are not packed go on with masks.
    ids = batch["input_ids"][:, :50]
    plain = encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).last
    assert len(calls) == 4 and np.isfinite(plain.numpy()).all()


def test_on_a_cpu_masks_serve(tokenizer: TextTokenizer) -> None:
    encoder = encoder_of(tokenizer, "bert")
    assert not packed.knows_boundaries(encoder.model)
    with torch.autocast("cpu", torch.bfloat16):
        assert not packed.knows_boundaries(encoder.model)
