"""Methods that learn from two texts in a row: next segments, the order of segments, translations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.objectives.examples import example_batch, example_encoder
from toolkit.objectives import OBJECTIVES, build_objective


def parts(name: str, **settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    objective = build_objective(OBJECTIVES.get(name).Config(**settings), example_encoder("text")).eval()
    return objective, example_batch("text", pairing=objective.pairing)


@pytest.mark.parametrize("name", ["nsp", "sop"])
def test_the_loss_is_the_sum_of_two_means(name: str) -> None:
    """Devlin et al. 2019, appendix A.2; Lan et al. 2020, section 3.1."""
    objective, batch = parts(name, pair_weight=2.0)
    step = objective(batch)
    hidden = objective.encoder(batch).last
    embeddings = objective.encoder.token_embeddings
    logits = F.linear(objective.head(hidden), embeddings, objective.head.bias).flatten(0, 1)
    of_tokens = F.cross_entropy(logits[batch["positions"]], batch["targets"])
    of_pairs = F.cross_entropy(objective.answer(hidden[:, 0]), batch["labels"])
    torch.testing.assert_close(step.loss_sum / step.count, of_tokens + 2 * of_pairs)
    torch.testing.assert_close(step.logs["token_loss"], of_tokens)
    torch.testing.assert_close(step.logs["pair_loss"], of_pairs)
    assert 0 <= step.logs["pair_accuracy"] <= 1


@pytest.mark.parametrize("name", ["nsp", "sop"])
def test_the_answer_can_be_learnt(name: str) -> None:
    objective, batch = parts(name)
    objective.train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    for _ in range(60):
        step = objective(batch)
        (step.loss_sum / step.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert step.logs["pair_accuracy"] == 1


def test_a_translation_helps_to_find_what_is_hidden() -> None:
    """The masked side's gradient reaches the other side's tokens, and positions begin anew there."""
    objective, batch = parts("tlm")
    seen: list[Any] = []
    objective.encoder.model.embeddings.register_forward_hook(
        lambda *call: seen.append(call[2].retain_grad() or call[2])
    )
    on_first = batch["segments"].flatten()[batch["positions"]] == 0
    only_first = {name: batch[name][on_first] for name in ("positions", "targets")}
    objective(batch | only_first).loss_sum.backward()
    assert seen[0].grad[batch["segments"] == 1].abs().sum() > 0
    assert (batch["position_ids"][batch["segments"] == 1] == 0).sum() == len(batch["clean_ids"])


def test_the_position_within_its_own_text_counts() -> None:
    objective, batch = parts("tlm")
    through = torch.arange(batch["clean_ids"].shape[1]).expand_as(batch["clean_ids"])
    assert objective(batch).loss_sum != objective(batch | {"position_ids": through}).loss_sum
