from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from tests.objectives.examples import example_batch, example_encoder, text_batches, tokenizer, vivid
from toolkit.objectives import build_objective
from toolkit.objectives.clm import CLM, CLMConfig, num_next_tokens


def objective() -> CLM:
    return vivid(build_objective(CLMConfig(), example_encoder("text")))


def test_each_token_is_predicted_from_those_before_it() -> None:
    causal, batch = objective(), example_batch("text")
    step = causal(batch)
    special, total, count = tokenizer().special, 0.0, 0
    for row in batch["clean_ids"]:
        text = row[row != special.pad]
        for end in range(1, len(text)):
            before = {"input_ids": text[None, :end], "attention_mask": torch.ones(1, end, dtype=torch.long)}
            hidden = causal.head(causal.encoder(before).last[0, -1])
            logits = F.linear(hidden, causal.encoder.token_embeddings, causal.head.bias)
            total += F.cross_entropy(logits, text[end]).item()
            count += 1
    assert step.loss_sum.item() == pytest.approx(total, rel=1e-5)
    assert step.count == count


def test_masks_are_not_seen() -> None:
    batch = example_batch("text")
    hidden = {"input_ids": torch.full_like(batch["input_ids"], tokenizer().special.mask)}
    causal = objective()
    assert torch.equal(causal(batch).loss_sum, causal(batch | hidden).loss_sum)


def test_texts_in_one_row_do_not_see_each_other() -> None:
    """Two rows of a batch end to end in one."""
    causal, batch = objective(), example_batch("text", size=4)
    rows = [row[mask.bool()] for row, mask in zip(batch["clean_ids"], batch["attention_mask"], strict=True)]
    lengths = [len(row) for row in rows]
    packed = {
        "clean_ids": torch.cat(rows)[None],
        "attention_mask": torch.ones(1, sum(lengths), dtype=torch.long),
        "documents": torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "boundaries": torch.tensor([0, *lengths]).cumsum(0).int(),
        "languages": torch.zeros(4, dtype=torch.long),
    }
    alone, together = causal(batch), causal(packed)
    torch.testing.assert_close(together.loss_sum, alone.loss_sum)
    assert together.count == alone.count == sum(lengths) - 4
    assert len(together.embeddings) == 1  # as many as rows


def test_the_first_token_of_a_text_is_not_predicted() -> None:
    assert num_next_tokens(torch.tensor([[0, 0, 1, 1, 1, -1, -1], [2, -1, -1, -1, -1, -1, -1]])) == 3


def test_the_encoder_stays_causal_when_it_is_saved(tmp_path: Path) -> None:
    causal = objective()
    causal.encoder.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path).eval()
    batch = text_batches(2).batch(0)
    ids, mask = batch["clean_ids"], batch["attention_mask"]
    changed = ids.clone()
    changed[:, 3:] = 9
    outputs = [model(input_ids=one, attention_mask=mask).last_hidden_state[:, :3] for one in (ids, changed)]
    torch.testing.assert_close(*outputs)
