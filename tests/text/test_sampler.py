from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from toolkit.balance import BalanceConfig, BalanceStage
from toolkit.text.sampler import Layout, PackedSampler, TextSampler

AS_THEY_ARE = BalanceConfig(temperature=1)


@dataclass
class Made:
    """Texts of so many tokens in so many languages."""

    lengths: np.ndarray
    languages: np.ndarray
    language_names: tuple[str, ...] = ("en", "sl", "xx")

    def __len__(self) -> int:
        return len(self.lengths)


def made(num_texts: int = 600, longest: int = 60, small: int = 20) -> Made:
    """Most texts are English, `small` of them Slovene; nothing is in the third language."""
    lengths = np.random.default_rng(0).geometric(0.08, num_texts).clip(1, longest)
    return Made(lengths, (np.arange(num_texts) % (num_texts // small) == 0).astype(np.uint16))


def packed(source: Made, batch_size: int = 8, seed: int = 0, **others: object) -> PackedSampler:
    balance = others.pop("balance", AS_THEY_ARE)
    return PackedSampler(source, batch_size, 64, seed, balance, **others)  # type: ignore[arg-type]


def texts_of_round(sampler: PackedSampler, number: int) -> np.ndarray:
    return sampler._round(number).texts


def test_no_text_is_left_out_and_none_comes_twice() -> None:
    source = made()
    sampler = TextSampler(source, 8, 0, AS_THEY_ARE)
    assert sampler.batches_a_round == 37 and sampler.samples_per_epoch == 600  # twice 37 of 75 batches are a pass
    seen = np.concatenate([sampler.rows(step) for step in range(74)])
    assert len({*seen.tolist()}) == 74 * 8
    packer = packed(source)
    assert packer.round_size == 600  # a pass is less than 32 batches
    packer.layout(40)
    for number in range(3):
        assert sorted(texts_of_round(packer, number)) == list(range(600))


def test_texts_of_a_batch_are_of_like_length() -> None:
    source = made()
    sampler = TextSampler(source, 8, 0, AS_THEY_ARE)
    spreads = [np.ptp(source.lengths[sampler.rows(step)]) for step in range(50)]
    assert np.mean(spreads) < np.ptp(source.lengths) / 10


def test_rows_hold_what_fits_and_nothing_lies_on_anything_else() -> None:
    source = made()
    sampler = packed(source)
    tokens = 0
    for step in range(30):
        layout = sampler.layout(step)
        assert layout.shape == (8, 64) and {*layout.rows.tolist()} == set(range(8))
        assert (np.diff(layout.rows) >= 0).all()
        free = np.ones(layout.shape, dtype=int)
        for text, row, start in zip(layout.texts, layout.rows, layout.starts, strict=True):
            size = source.lengths[text] + 2
            assert start + size <= 64
            free[row, start : start + size] -= 1
        assert free.min() >= 0
        tokens += int((free == 0).sum())
    assert tokens / (30 * 8 * 64) > 0.98


def test_any_step_may_be_asked_for_in_any_order() -> None:
    """A step far on, asked for first, is what it is after all others: exact resume needs nothing but its number."""
    balance = BalanceConfig(stages=(BalanceStage(start=0, temperature=1), BalanceStage(start=0.5, temperature=5)))
    for make in (
        lambda: packed(made(), balance=balance, num_steps=200),
        lambda: TextSampler(made(), 8, 0, balance, 200),
    ):
        forwards = make()
        expected = [forwards.layout(step) for step in range(150)]
        backwards = make()
        for step in (149, 60, 61, 3, 120):
            found = backwards.layout(step)
            for name in ("texts", "rows", "starts"):
                assert np.array_equal(getattr(found, name), getattr(expected[step], name)), (step, name)


def test_steps_take_rows_across_the_ends_of_rounds() -> None:
    sampler = packed(made(), batch_size=7)
    num_steps = 40
    layouts = [sampler.layout(step) for step in range(num_steps)]
    drawn = np.concatenate([layout.texts for layout in layouts])
    ends = sampler._ends
    assert any(end % 7 for end in ends)
    rounds = [texts_of_round(sampler, number) for number in range(len(ends) - 1)]
    assert np.array_equal(drawn, np.concatenate(rounds)[: len(drawn)])


def test_parts_of_a_layout_are_the_layout() -> None:
    whole = packed(made()).layout(4)
    parts = [whole.of_rows(slice(first, first + 2)) for first in range(0, 8, 2)]
    assert np.array_equal(np.concatenate([part.texts for part in parts]), whole.texts)
    rows = [part.rows + 2 * number for number, part in enumerate(parts)]
    assert np.array_equal(np.concatenate(rows), whole.rows) and all(part.shape == (2, 64) for part in parts)


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("temperature", [1, 2, 1e6])
def test_languages_are_drawn_by_temperature(temperature: float, packs: bool) -> None:
    source = made(small=12)
    balance = BalanceConfig(temperature=temperature)
    sampler = packed(source, balance=balance) if packs else TextSampler(source, 8, 0, balance)
    drawn = np.concatenate([sampler.layout(step).texts for step in range(296)])
    if isinstance(sampler, PackedSampler):  # whole rounds, as no step ends with one
        drawn = np.concatenate([texts_of_round(sampler, number) for number in range(len(sampler._ends) - 1)])
    sizes = np.bincount(source.languages) ** (1 / temperature)
    assert np.mean(source.languages[drawn] == 1) == pytest.approx(sizes[1] / sizes.sum(), abs=0.02)
    counts = Counter(drawn[source.languages[drawn] == 1].tolist())
    assert len(counts) == 12
    assert max(counts.values()) - min(counts.values()) <= 1  # all texts of a language alike


def test_balance_changes_over_the_training() -> None:
    balance = BalanceConfig(stages=(BalanceStage(start=0, temperature=1), BalanceStage(start=0.5, temperature=1e6)))
    source = made(small=30)
    for sampler in (packed(source, balance=balance, num_steps=200), TextSampler(source, 8, 0, balance, 200)):
        early, late = (
            np.mean(np.concatenate([source.languages[sampler.layout(step).texts] for step in steps]))
            for steps in (range(80), range(120, 200))
        )
        assert early == pytest.approx(0.05, abs=0.02) and late == pytest.approx(0.5, abs=0.06)


def test_three_sentences_beside_many_have_their_turn() -> None:
    source = made(num_texts=6000, small=3)
    for sampler in (packed(source), TextSampler(source, 8, 0, AS_THEY_ARE)):
        drawn = np.concatenate([sampler.layout(step).texts for step in range(800)])
        found = Counter(drawn[source.languages[drawn] == 1].tolist())
        assert len(found) == 3


def test_another_seed_draws_other_texts() -> None:
    one, other = packed(made()).layout(0), packed(made(), seed=1).layout(0)
    assert not np.array_equal(one.texts, other.texts)


def test_a_corpus_smaller_than_a_batch_is_gone_through_again_within_it() -> None:
    source = Made(np.array([5, 7, 60]), np.zeros(3, np.uint16), ("en",))
    layout: Layout = packed(source, batch_size=4).layout(0)
    assert {*layout.rows.tolist()} == {0, 1, 2, 3} and {*layout.texts.tolist()} == {0, 1, 2}
