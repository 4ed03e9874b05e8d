import pickle

import numpy as np
import pytest
import torch

from toolkit.balance import BalanceConfig
from toolkit.errors import ConfigError
from toolkit.text.batches import MaskedBatches
from toolkit.text.masking import MaskingConfig
from toolkit.text.sampler import Layout
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TextTokenizer


@pytest.fixture
def store(tokenizer: TextTokenizer, sample_texts: list[str], sample_languages: list[str]) -> TokenStore:
    return TokenStore.build(sample_texts, sample_languages, tokenizer, max_length=64)


def masked(store: TokenStore, tokenizer: TextTokenizer, batch_size: int = 8, **others: object) -> MaskedBatches:
    masking = MaskingConfig(share=0.3)
    return MaskedBatches(store, tokenizer, masking, batch_size=batch_size, seed=0, **others)  # type: ignore[arg-type]


both = pytest.mark.parametrize("packed", [False, True])


@both
def test_batches_are_a_function_of_seed_and_step(store: TokenStore, tokenizer: TextTokenizer, packed: bool) -> None:
    def batches(seed: int) -> MaskedBatches:
        return MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=8, seed=seed, packed=packed)

    forwards, backwards = batches(0), batches(0)
    steps = [0, 3, 14, 40, 41, 100]
    first = [forwards.batch(step) for step in steps]
    second = [backwards.batch(step) for step in reversed(steps)][::-1]
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(
        not torch.equal(one["clean_ids"], batches(1).batch(step)["clean_ids"])
        for one, step in zip(first, steps, strict=True)
    )


@both
def test_a_batch_fits_together(store: TokenStore, tokenizer: TextTokenizer, packed: bool) -> None:
    batches, special = masked(store, tokenizer, packed=packed), tokenizer.special
    for step in (5, 17):
        batch = batches.batch(step)
        ids_BT = batch["clean_ids"]
        assert batch["input_ids"].shape == batch["attention_mask"].shape == ids_BT.shape == batch["coins"].shape
        assert torch.equal(ids_BT.flatten()[batch["positions"]], batch["targets"])
        assert tokenizer.maskable[batch["targets"]].all()
        assert torch.equal(batch["attention_mask"] == 0, ids_BT == special.pad)
        num_texts = int((ids_BT == special.bos).sum())
        assert len(batch["languages"]) == num_texts == int((ids_BT == special.eos).sum())
        assert batch["totals"].tolist() == [num_texts, int(batch["attention_mask"].sum()), len(batch["targets"])]


def test_packed_texts_lie_end_to_end_and_know_where_they_begin(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer, packed=True)
    for step in (0, 1, 9):
        batch, texts = batches.batch(step), batches.sample_ids(step)
        documents, starts = batch["documents"], batch["boundaries"]
        assert batch["clean_ids"].shape == (8, 64)
        for number, text in enumerate(texts):
            here = documents == number
            ids = batch["clean_ids"][here].tolist()
            assert ids == [tokenizer.special.bos, *store.ids(text), tokenizer.special.eos]
            assert batch["position_ids"][here].tolist() == list(range(len(ids)))
            assert store.language_names[batch["languages"][number]] == store.language_names[store.languages[text]]
            assert len({*torch.nonzero(here)[:, 0].tolist()}) == 1  # no text goes over into the next row
        flat = documents.flatten()
        anew = torch.nonzero(flat[1:] != flat[:-1]).flatten() + 1
        rows = torch.arange(0, documents.numel() + 1, 64)
        assert starts.tolist() == sorted({*anew.tolist(), *rows.tolist()}) and starts.dtype == torch.int32


def test_the_same_texts_get_the_same_masks_packed_or_not(store: TokenStore, tokenizer: TextTokenizer) -> None:
    packed, single = masked(store, tokenizer, packed=True), masked(store, tokenizer)
    texts = packed.sampler.layout(3).texts
    alone = Layout(texts, np.arange(len(texts)), np.zeros(len(texts), int), (len(texts), 64))
    single.sampler.layout = lambda step: alone  # type: ignore[method-assign, union-attr]
    single.sampler.batch_size = len(texts)
    one, other = packed.batch(3), single.batch(3)
    for key in ("input_ids", "clean_ids", "coins"):
        of_one, of_other = one[key][one["attention_mask"] == 1], other[key][other["attention_mask"] == 1]
        assert torch.equal(of_one, of_other), key
    assert torch.equal(one["targets"], other["targets"])
    assert torch.equal(one["totals"], other["totals"])


@both
@pytest.mark.parametrize("num_shards", [1, 2, 8])
def test_parts_of_a_batch_are_the_batch(
    store: TokenStore, tokenizer: TextTokenizer, num_shards: int, packed: bool
) -> None:
    batches = masked(store, tokenizer, packed=packed)
    for step in (5, 17):
        whole, first, texts = batches.batch(step), 0, 0
        for shard in range(num_shards):
            part = masked(store, tokenizer, packed=packed).batch(step, shard, num_shards)
            rows, length = part["input_ids"].shape
            assert rows == 8 // num_shards
            for key in ("input_ids", "attention_mask", "clean_ids", "coins"):
                assert torch.equal(part[key], whole[key][first : first + rows, :length]), key
            assert not whole["attention_mask"][first : first + rows, length:].any()
            assert packed or part["attention_mask"].sum(dim=1).max() == length
            # The same tokens of the whole batch are masked, and they are found at the part's own positions.
            width = whole["input_ids"].shape[1]
            back = (part["positions"] // length + first) * width + part["positions"] % length
            here = (whole["positions"] >= first * width) & (whole["positions"] < (first + rows) * width)
            assert torch.equal(back, whole["positions"][here])
            assert torch.equal(part["targets"], whole["targets"][here])
            assert torch.equal(part["clean_ids"].flatten()[part["positions"]], part["targets"])
            assert torch.equal(part["totals"], whole["totals"])
            num = len(part["languages"])
            assert torch.equal(part["languages"], whole["languages"][texts : texts + num])
            if packed:
                expected = whole["documents"][first : first + rows] - texts
                assert torch.equal(part["documents"], expected.where(part["documents"] >= 0, torch.tensor(-1)))
            first, texts = first + rows, texts + num
        assert first == 8 and texts == len(whole["languages"])
        ids = [row for shard in range(num_shards) for row in batches.sample_ids(step, shard, num_shards)]
        assert ids == batches.sampler.layout(step).texts.tolist()


@both
def test_writing_into_a_batch_leaves_the_next_one_as_it_was(
    store: TokenStore, tokenizer: TextTokenizer, packed: bool
) -> None:
    batches = masked(store, tokenizer, packed=packed)
    for tensor in batches.batch(0).values():
        tensor.zero_()
    again, fresh = batches.batch(0), masked(store, tokenizer, packed=packed).batch(0)
    assert all(torch.equal(again[key], fresh[key]) for key in fresh)


def test_coins_are_uniform_and_another_draw_each_step(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer)
    drawn = [batches.batch(step) for step in range(60)]
    coins = torch.cat([batch["coins"][batch["attention_mask"] == 1] for batch in drawn])
    assert coins.dtype == torch.float32 and coins.min() >= 0 and coins.max() < 1
    assert coins.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / len(coins)) ** 0.5)
    assert len(torch.unique(coins)) > 0.99 * len(coins)


@both
def test_tokens_are_counted_without_padding(store: TokenStore, tokenizer: TextTokenizer, packed: bool) -> None:
    batches = masked(store, tokenizer, packed=packed)
    for step in (0, 9):
        assert batches.num_tokens(step) == int(batches.batch(step)["attention_mask"].sum())
    tokens = int(store.lengths.sum()) + 2 * len(store)
    assert batches.samples_per_epoch == (-(-tokens // 64) if packed else len(store) == 112 and 112)


def test_masks_follow_the_schedule(store: TokenStore, tokenizer: TextTokenizer) -> None:
    masking = MaskingConfig(unit="token", share=0.5, end_share=0.1)
    batches = MaskedBatches(store, tokenizer, masking, batch_size=56, seed=0, num_steps=100)
    shares = []
    for step in (0, 50, 99):
        batch = batches.batch(step)
        texts, tokens, masks = batch["totals"].tolist()
        shares.append(masks / (tokens - 2 * texts))
    assert shares == pytest.approx([0.5, 0.3, 0.104], abs=0.04)


def test_a_batch_is_no_larger_than_the_corpus_and_parts_evenly(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer, batch_size=500)
    assert len(batches.batch(0)["input_ids"]) == batches.batch_size == batches.samples_per_epoch == 112
    assert len(batches.batch(0, 3, 4)["input_ids"]) == 28
    with pytest.raises(ConfigError, match=r"training\.batch_size: 112 .* 5 equal parts"):
        batches.batch(0, 0, 5)


@both
def test_batches_reach_processes_that_are_started_afresh(
    store: TokenStore, tokenizer: TextTokenizer, packed: bool
) -> None:
    batches = masked(store, tokenizer, packed=packed, balance=BalanceConfig(temperature=3))
    first = batches.batch(5)  # what it keeps of the last step must not be in the way
    again = pickle.loads(pickle.dumps(batches)).batch(5)
    assert all(torch.equal(first[key], again[key]) for key in first)
