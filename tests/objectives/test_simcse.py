import logging
from typing import Any

import pytest
import torch

from tests.objectives.examples import example_batch, example_encoder, tokenizer
from tests.objectives.test_portions import assert_equal, gradients
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.objectives import build_objective
from toolkit.objectives.kept_tokens import kept_tokens
from toolkit.objectives.moco_v3 import in_batch_info_nce_loss
from toolkit.objectives.simcse import SimCSE, SimCSEConfig


def with_dropout() -> TextEncoder:
    config = TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2, dropout=0.2)
    return TextEncoder.from_scratch(config, tokenizer(), seed=0)


def test_a_text_is_seen_through_two_draws_of_dropout() -> None:
    objective: Any = build_objective(SimCSEConfig(), with_dropout()).train()
    first, second = objective.embed(example_batch("text"))
    assert not torch.equal(first, second)
    assert torch.nn.functional.cosine_similarity(first, second).min() > 0.5
    assert torch.equal(*objective.eval().embed(example_batch("text")))


def test_without_dropout_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fewlabel"):
        build_objective(SimCSEConfig(), with_dropout())
        build_objective(SimCSEConfig(positives="translations"), example_encoder("text"))
        assert not caplog.records
        build_objective(SimCSEConfig(), example_encoder("text"))
    assert "encoder.dropout: 0.1" in caplog.text


def test_the_loss_is_that_of_finding_the_second_among_all_second_ones() -> None:
    objective = build_objective(SimCSEConfig(temperature=0.5), example_encoder("text")).eval()
    z0, z1 = (z.double() for z in objective.embed(example_batch("text")))
    similar = (z0 @ z1.T / 0.5).exp()
    expected = -(similar.diagonal() / similar.sum(1)).log().mean()
    assert objective(example_batch("text")).loss_sum.item() / 16 == pytest.approx(expected.item(), rel=1e-4)


def test_translations_are_embedded_each_by_itself() -> None:
    objective: Any = build_objective(SimCSEConfig(positives="translations"), example_encoder("text")).eval()
    assert objective.pairing == "translation" and SimCSE.pairing is None
    batch, encoder = example_batch("text", pairing="translation"), objective.encoder
    for side, embedded in enumerate(objective.embed(batch)[:2]):
        ids = [row[segments == side] for row, segments in zip(batch["clean_ids"], batch["segments"], strict=True)]
        texts = tokenizer().fast.batch_decode(ids, skip_special_tokens=True)
        torch.testing.assert_close(embedded, encoder.pooled(encoder(encoder.collate(texts))), rtol=1e-4, atol=1e-5)


def test_another_translation_of_the_same_text_is_no_negative() -> None:
    """In the loss, however the batch is shared out, and in what it says with no group in common."""
    objective: Any = build_objective(SimCSEConfig(positives="translations"), example_encoder("text")).eval()
    parts = [objective.embed(example_batch("text", 16, shard, 2, pairing="translation")) for shard in range(2)]
    z0, z1, groups = (torch.cat(part) for part in zip(*parts, strict=True))
    numbers = groups[:, 0].tolist()
    assert len(set(numbers)) < 16  # the example's texts come three times
    similar = (z0.double() @ z1.double().T / 0.05).exp()
    own = similar.diagonal()
    total = torch.zeros(())
    for row in range(16):
        others = sum(similar[row, key] for key in range(16) if numbers[key] != numbers[row])
        total = total - (own[row] / (own[row] + others)).log() / 16
    whole = objective(example_batch("text", 16, pairing="translation")).loss_sum.item() / 32
    assert whole == pytest.approx(total.item(), rel=1e-3)
    assert objective.loss((z0, z1, groups)).item() == pytest.approx(total.item(), rel=1e-3)
    apart = objective.loss((z0, z1, torch.arange(16.0)[:, None]))
    assert torch.equal(apart, in_batch_info_nce_loss(z0, z1, 0.05)) and apart > total


def test_groups_survive_portions() -> None:
    """Gradient caching asks all that is embedded for a gradient."""
    found = []
    for micro_batch_size in (None, 2):
        objective = build_objective(SimCSEConfig(positives="translations"), example_encoder("text"))
        found.append(gradients(objective, micro_batch_size))
    assert_equal(*found)


def test_kept_tokens_move_up_in_order() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    kept = torch.tensor([[False, True, False, True], [True, True, False, True]])
    batch = kept_tokens(ids, kept, pad_id=0)
    assert batch["input_ids"].tolist() == [[6, 8, 0], [9, 10, 12]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert kept_tokens(ids, kept, 0, longest=4)["input_ids"].shape == (2, 4)
