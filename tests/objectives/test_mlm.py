import torch
import torch.nn.functional as F

from tests.objectives.examples import example_batch, example_encoder
from toolkit.objectives import build_objective
from toolkit.objectives.clm import CLMConfig
from toolkit.objectives.mlm import MLMConfig, mlm_loss


def test_no_masked_tokens_is_a_loss_of_zero() -> None:
    none = torch.empty(0, 5, requires_grad=True)
    loss = mlm_loss(none, torch.ones(11, 5), torch.zeros(11), torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


def test_the_head_on_masked_positions_is_the_head_on_all() -> None:
    objective, batch = build_objective(MLMConfig(), example_encoder("text")).eval(), example_batch("text")
    step = objective(batch)
    encoder = objective.encoder
    logits_BTV = F.linear(objective.head(encoder(batch).last), encoder.token_embeddings, objective.head.bias)
    everywhere = F.cross_entropy(logits_BTV.flatten(0, 1), batch["clean_ids"].flatten(), reduction="none")
    torch.testing.assert_close(step.loss_sum, everywhere[batch["positions"]].sum())
    assert step.count == len(batch["positions"])
    assert step.logs["masked_share"] == step.count / batch["attention_mask"].sum()


def test_output_weights_are_the_input_embeddings_and_the_head_stays_with_the_encoder() -> None:
    encoder = example_encoder("text")
    objective = build_objective(MLMConfig(), encoder)
    objective(example_batch("text")).loss_sum.backward()
    assert objective.head is encoder.lm_head
    assert encoder.token_embeddings.grad.abs().sum() > 0
    assert {name.partition(".")[0] for name, _ in objective.named_parameters()} == {"encoder", "head"}
    assert objective.head.bias.shape == (encoder.vocab_size,)


def test_both_sides_are_seen_again_after_a_causal_stage() -> None:
    encoder = example_encoder("text")
    build_objective(CLMConfig(), encoder)
    assert encoder.is_causal
    build_objective(MLMConfig(), encoder)
    assert not encoder.is_causal


def test_autocast_multiplies_in_half_precision_and_sums_in_full() -> None:
    objective, batch = build_objective(MLMConfig(), example_encoder("text")).eval(), example_batch("text")
    exact = objective(batch).loss_sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = objective(batch).loss_sum
    coarse.backward()
    assert coarse.dtype == torch.float32 and coarse != exact
    torch.testing.assert_close(coarse, exact, rtol=1e-2, atol=0)
