import math

import pytest
import torch

from tests.objectives.examples import example_batch, example_encoder, tokenizer
from toolkit.objectives import build_objective
from toolkit.objectives.tsdae import TSDAE, TSDAEConfig, words_kept

# 0 padding, 2 and 3 start and end, 4 opens a word, 5 goes on with one, 6 stands alone
OPENS = torch.tensor([0, 0, 0, 0, 1, 0, 1], dtype=torch.bool)
CLOSES = torch.tensor([0, 0, 0, 0, 0, 0, 1], dtype=torch.bool)
MASKABLE = torch.arange(7) >= 4
TEXT = torch.tensor([[2, 4, 5, 5, 4, 6, 5, 3, 0]])


def kept(coins: list[float], share: float = 0.6) -> list[int]:
    return words_kept(TEXT, torch.tensor([coins]), (OPENS, CLOSES, MASKABLE), share)[0].long().tolist()


def test_a_word_goes_as_a_whole_by_its_first_tokens_coin() -> None:
    #            s    w    w    w    v    !    u    e  pad
    assert kept([0.9, 0.7, 0.1, 0.1, 0.2, 0.6, 0.3, 0.9, 0.9]) == [0, 1, 1, 1, 0, 1, 0, 0, 0]


def test_one_word_is_always_left() -> None:
    assert kept([0.9, 0.1, 0.9, 0.9, 0.5, 0.3, 0.2, 0.9, 0.9]) == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_so_many_words_are_deleted() -> None:
    ids = torch.full((1, 10_000), 4)
    coins = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    left = words_kept(ids, coins, (OPENS, CLOSES, MASKABLE), 0.6).float().mean()
    assert left.item() == pytest.approx(0.4, abs=0.02)


def objective() -> TSDAE:
    return build_objective(TSDAEConfig(), example_encoder("text")).eval()


def test_the_encoder_sees_what_is_left() -> None:
    tsdae, batch, seen = objective(), example_batch("text"), []
    tsdae.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]["input_ids"]))
    tsdae(batch)
    special = tokenizer().special
    for whole, left in zip(batch["clean_ids"], seen[0], strict=True):
        text = left[left != special.pad].tolist()
        rest = iter(whole.tolist())
        assert all(token in rest for token in text)  # in order
        assert text[0] == special.bos and text[-1] == special.eos
    assert 0.2 < (seen[0] != special.pad).sum() / batch["attention_mask"].sum() < 0.8


def test_the_decoder_sees_the_words_before_and_the_pooled_vector() -> None:
    decoder = objective().decoder
    embedded, pooled = torch.randn(2, 6, 16), torch.randn(2, 16)
    decoded = decoder(embedded, pooled)
    changed = embedded.clone()
    changed[:, 4:] *= -1
    after = decoder(changed, pooled)
    torch.testing.assert_close(after[:, :4], decoded[:, :4])
    assert not torch.allclose(after[:, 4:], decoded[:, 4:])
    assert not torch.allclose(decoder(embedded, pooled.roll(1, 0))[:, 0], decoded[:, 0])


def test_the_loss_is_that_of_all_tokens_but_the_start() -> None:
    tsdae, batch = objective(), example_batch("text")
    step = tsdae(batch)
    assert step.count == int(batch["attention_mask"].sum()) - len(batch["clean_ids"])
    untrained = math.log(len(tokenizer()))
    assert (step.loss_sum / step.count).item() == pytest.approx(untrained, rel=0.2)


def test_the_encoder_learns_through_the_pooled_vector_alone() -> None:
    """With the embeddings fixed, which the decoder reads too, a gradient can come no other way."""
    tsdae = objective()
    tsdae(example_batch("text")).loss_sum.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tsdae.encoder.model.encoder.parameters())
    tsdae.zero_grad()
    with torch.no_grad():
        for parameter in tsdae.decoder.condition.parameters():
            parameter.zero_()
    tsdae(example_batch("text")).loss_sum.backward()
    assert all(p.grad.abs().sum() == 0 for p in tsdae.encoder.model.encoder.parameters())
