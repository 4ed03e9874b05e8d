import pickle
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from toolkit.errors import ConfigError, DataError
from toolkit.text.batches import MaskedBatches, TextSampler, TokenStore
from toolkit.text.masking import MaskingConfig
from toolkit.text.tokenizer import BOS, EOS, PAD, TextTokenizer


@pytest.fixture
def store(tokenizer: TextTokenizer, sample_texts: list[str], sample_languages: list[str]) -> TokenStore:
    return TokenStore.build(sample_texts, sample_languages, tokenizer, max_length=64)


def test_long_texts_are_cut_and_no_token_is_lost(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    long = " ".join(sample_texts)
    store = TokenStore.build([long, sample_texts[0]], ["en", "en"], tokenizer, max_length=16)
    assert store.lengths.max() == 14
    assert store.tokens.tolist() == list(chain.from_iterable(tokenizer.encode([long, sample_texts[0]])))
    rows = store.padded(np.arange(len(store)))
    assert rows[rows > EOS].tolist() == store.tokens.tolist()
    assert (rows[:, 0] == BOS).all() and ((rows == EOS).sum(axis=1) == 1).all()


def test_an_empty_corpus(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        TokenStore.build([""], ["en"], tokenizer, max_length=16)


def test_no_text_is_left_out(store: TokenStore) -> None:
    sampler = TextSampler(store, batch_size=8, seed=0, temperature=1)
    seen = np.concatenate([sampler.rows(step) for step in range(sampler.batches_a_round)])
    assert sorted(seen) == list(range(len(store)))


def test_batches_are_a_function_of_seed_and_step(store: TokenStore, tokenizer: TextTokenizer) -> None:
    def batches(seed: int) -> MaskedBatches:
        return MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=8, seed=seed, temperature=2)

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


def test_a_batch_fits_together(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batch = MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=8, seed=0, temperature=2).batch(5)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["clean_ids"].shape
    assert torch.equal(batch["clean_ids"].flatten()[batch["positions"]], batch["targets"])
    assert torch.equal(batch["attention_mask"] == 0, batch["clean_ids"] == PAD)


def masked(store: TokenStore, tokenizer: TextTokenizer, batch_size: int = 8) -> MaskedBatches:
    return MaskedBatches(store, tokenizer, MaskingConfig(share=0.3), batch_size=batch_size, seed=0, temperature=2)


@pytest.mark.parametrize("num_shards", [1, 2, 8])
def test_parts_of_a_batch_are_the_batch(store: TokenStore, tokenizer: TextTokenizer, num_shards: int) -> None:
    batches = masked(store, tokenizer)
    for step in (5, 17):
        whole, first = batches.batch(step), 0
        for shard in range(num_shards):
            part = masked(store, tokenizer).batch(step, shard, num_shards)
            rows, length = len(part["input_ids"]), part["input_ids"].shape[1]
            assert rows == 8 // num_shards
            for key in ("input_ids", "attention_mask", "clean_ids", "coins"):
                assert torch.equal(part[key], whole[key][first : first + rows, :length]), key
            assert not whole["attention_mask"][first : first + rows, length:].any()
            assert part["attention_mask"].sum(dim=1).max() == length
            # The same tokens of the whole batch are masked, and they are found at the part's own positions.
            width = whole["input_ids"].shape[1]
            back = (part["positions"] // length + first) * width + part["positions"] % length
            here = (whole["positions"] >= first * width) & (whole["positions"] < (first + rows) * width)
            assert torch.equal(back, whole["positions"][here])
            assert torch.equal(part["targets"], whole["targets"][here])
            assert torch.equal(part["clean_ids"].flatten()[part["positions"]], part["targets"])
            first += rows
        assert first == 8
        ids = [row for shard in range(num_shards) for row in batches.sample_ids(step, shard, num_shards)]
        assert ids == batches.sampler.rows(step).tolist()
        for chunk, row in zip(ids, whole["clean_ids"], strict=True):
            assert row[row > EOS].tolist() == store.tokens[store.offsets[chunk] : store.offsets[chunk + 1]].tolist()


def test_writing_into_a_batch_leaves_the_next_one_as_it_was(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer)
    for tensor in batches.batch(0).values():
        tensor.zero_()
    again, fresh = batches.batch(0), masked(store, tokenizer).batch(0)
    assert all(torch.equal(again[key], fresh[key]) for key in fresh)


def test_coins_are_uniform_and_another_draw_each_step(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer)
    drawn = [batches.batch(step)["coins"] for step in range(60)]
    coins = torch.cat([batch.flatten() for batch in drawn])
    assert coins.dtype == torch.float32 and coins.min() >= 0 and coins.max() < 1
    assert coins.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / len(coins)) ** 0.5)
    assert len(torch.unique(coins)) > 0.99 * len(coins)


def test_tokens_are_counted_without_padding(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer)
    for step in (0, 9):
        assert batches.num_tokens(step) == int(batches.batch(step)["attention_mask"].sum())
    assert batches.samples_per_epoch == len(store) == 112


def test_a_batch_is_no_larger_than_the_corpus_and_parts_evenly(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = masked(store, tokenizer, batch_size=500)
    assert len(batches.batch(0)["input_ids"]) == batches.batch_size == batches.samples_per_epoch == 112
    assert len(batches.batch(0, 3, 4)["input_ids"]) == 28
    with pytest.raises(ConfigError, match=r"training\.batch_size: 112 .* 5 equal parts"):
        batches.batch(0, 0, 5)


def test_languages_are_drawn_by_temperature(store: TokenStore) -> None:
    few = np.r_[np.flatnonzero(store.languages == "en"), np.flatnonzero(store.languages == "sl")[:4]]
    lengths = store.lengths[few]
    tokens = np.concatenate([store.tokens[store.offsets[i] : store.offsets[i + 1]] for i in few])
    small = TokenStore(tokens, np.r_[0, np.cumsum(lengths)], store.languages[few])
    for temperature, share in ((1, 4 / 32), (2, 2 / (2 + 28**0.5)), (1e6, 0.5)):
        sampler = TextSampler(small, batch_size=8, seed=0, temperature=temperature)
        steps = range(10 * sampler.batches_a_round)
        drawn = np.concatenate([sampler.rows(step) for step in steps])
        assert np.mean(small.languages[drawn] == "sl") == pytest.approx(share, abs=0.02)
        counts = Counter(drawn[small.languages[drawn] == "sl"].tolist())
        assert max(counts.values()) - min(counts.values()) <= 1  # all texts of a language alike


def test_texts_of_a_batch_are_of_like_length(store: TokenStore) -> None:
    sampler = TextSampler(store, batch_size=8, seed=0, temperature=1)
    spreads = [np.ptp(store.lengths[sampler.rows(step)]) for step in range(sampler.batches_a_round)]
    assert np.mean(spreads) < np.ptp(store.lengths) / 3


def test_batches_reach_processes_that_are_started_afresh(store: TokenStore, tokenizer: TextTokenizer) -> None:
    batches = MaskedBatches(store, tokenizer, MaskingConfig(), batch_size=8, seed=0, temperature=2)
    first = batches.batch(5)  # what it keeps of the last step must not be in the way
    again = pickle.loads(pickle.dumps(batches)).batch(5)
    assert all(torch.equal(first[key], again[key]) for key in first)
