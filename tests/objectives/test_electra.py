from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.objectives.examples import example_batch, example_encoder, tokenizer, vivid
from toolkit.objectives import build_objective
from toolkit.objectives.electra import Electra, ElectraConfig


def objective(**settings: Any) -> Electra:
    return vivid(build_objective(ElectraConfig(**settings), example_encoder("text")))


def seen_by_the_encoder(electra: Electra, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    seen = []
    hook = electra.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]["input_ids"]))
    electra(batch)
    hook.remove()
    return seen[0]


def test_the_loss_is_the_papers_sum_of_two_means() -> None:
    """Clark et al. 2020: the generator's mean over masked tokens plus 50 times the discriminator's over all."""
    electra, batch = objective(), example_batch("text")
    step = electra(batch)
    ids, clean = seen_by_the_encoder(electra, batch), batch["clean_ids"]
    embeddings = electra.encoder.token_embeddings
    generated = electra.generator(
        inputs_embeds=embeddings[batch["input_ids"]], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    logits = F.linear(electra.generator_head(generated), embeddings, electra.generator_head.bias)
    of_generator = F.cross_entropy(logits.flatten(0, 1)[batch["positions"]], batch["targets"])
    scores = electra.discriminator_head(electra.encoder(batch | {"input_ids": ids}).last).squeeze(2)
    here = batch["attention_mask"].bool()
    of_discriminator = F.binary_cross_entropy_with_logits(scores[here], (ids != clean)[here].float())
    torch.testing.assert_close(step.loss_sum / step.count, of_generator + 50 * of_discriminator)
    assert step.logs["replaced_share"] == (ids != clean).sum() / step.count


def test_tokens_are_replaced_at_masked_positions_alone_and_by_the_coin() -> None:
    electra, batch = objective(), example_batch("text")
    ids = seen_by_the_encoder(electra, batch)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked.view(-1)[batch["positions"]] = True
    assert torch.equal(ids[~masked], batch["clean_ids"][~masked])
    assert (ids != batch["clean_ids"])[masked].float().mean() > 0.5  # an untrained generator seldom hits
    assert torch.equal(ids, seen_by_the_encoder(electra, batch))
    other = batch | {"coins": (batch["coins"] + 0.5) % 1}
    assert not torch.equal(ids, seen_by_the_encoder(electra, other))


def test_a_special_token_is_not_put_in() -> None:
    electra, batch = objective(), example_batch("text")
    with torch.no_grad():
        electra.generator_head.bias[tokenizer().special.pad] = 100
    assert torch.equal(seen_by_the_encoder(electra, batch), batch["clean_ids"])
    assert electra(batch).logs["replaced_share"] == 0


def test_the_discriminator_teaches_the_generator_nothing() -> None:
    batch, gradients = example_batch("text"), []
    for weight in (1e-6, 50.0):
        electra = objective(discriminator_weight=weight)
        electra(batch).loss_sum.backward()
        gradients.append(next(electra.generator.encoder.parameters()).grad)
    torch.testing.assert_close(*gradients)


def test_embeddings_are_the_encoders_and_all_parameters_are_trained() -> None:
    """DistributedDataParallel waits for each parameter's gradient."""
    electra = objective()
    electra(example_batch("text")).loss_sum.backward()
    without = [name for name, parameter in electra.named_parameters() if parameter.grad is None]
    assert without == []
    wide = [name for name, parameter in electra.named_parameters() if len(parameter) == electra.encoder.vocab_size]
    assert sorted(wide) == ["encoder.model.embeddings.word_embeddings.weight", "generator_head.bias"]


@pytest.mark.parametrize(("share", "width"), [(0.25, 8), (0.5, 8), (1.0, 16)])
def test_the_generator_is_narrow(share: float, width: int) -> None:
    assert objective(generator_share=share).generator.config.hidden_size == width


def test_a_generator_sees_its_own_text_only() -> None:
    """Two texts in one row give the loss of two rows, if the same tokens are drawn."""
    electra, batch = objective(), example_batch("text", size=4)
    rows = [mask.bool() for mask in batch["attention_mask"]]
    lengths = [int(mask.sum()) for mask in rows]
    place = torch.full(batch["clean_ids"].shape, -1)
    place[batch["attention_mask"].bool()] = torch.arange(sum(lengths))
    flat = {name: batch[name][batch["attention_mask"].bool()][None] for name in ("input_ids", "clean_ids", "coins")}
    packed = {
        **flat,
        "attention_mask": torch.ones(1, sum(lengths), dtype=torch.long),
        "positions": place.flatten()[batch["positions"]],
        "targets": batch["targets"],
        "documents": torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "boundaries": torch.tensor([0, *lengths]).cumsum(0).int(),
        "languages": torch.zeros(4, dtype=torch.long),
        "totals": batch["totals"],
    }
    torch.testing.assert_close(electra(packed).loss_sum, electra(batch).loss_sum)
