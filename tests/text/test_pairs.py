from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from toolkit.errors import DataError
from toolkit.text import MaskingConfig, TokenStore
from toolkit.text.corpus import Corpus
from toolkit.text.pairs import PairBatches, Pairing, SegmentPairs, TranslationPairs, translations
from toolkit.text.tokenizer import TextTokenizer

STORY = [
    "The film was a delight. I would not buy this book again! Was it a delight from start to finish?",
    "Pelayanan radio ini sangat memuaskan. Jaringan hotel hari ini lambat banget",
    "房间太小了。这本书写得很好。下次不会再来。",
    "Vlada naj se raje ukvarja s tem",
    "I would not buy this phone again, it broke in a day! The story was a delight. It broke!",
]
LANGUAGES = ["en", "id", "zh", "sl", "en"]


def segments(tokenizer: TextTokenizer, pairing: Pairing, max_length: int = 64) -> SegmentPairs:
    store = TokenStore.build(STORY, LANGUAGES, tokenizer, max_length)
    return SegmentPairs(store, tokenizer, pairing, max_length)


def batches(source: Any, tokenizer: TextTokenizer, pairing: Pairing, batch_size: int = 4) -> PairBatches:
    return PairBatches(source, tokenizer, MaskingConfig(), pairing=pairing, batch_size=batch_size, seed=0)


def drawn(source: SegmentPairs, row: int, num_draws: int = 60) -> list[tuple[list[int], list[int], int]]:
    rng = np.random.default_rng(0)
    return [
        (one.tolist(), other.tolist(), wrong) for one, other, wrong in (source.pair(row, rng) for _ in range(num_draws))
    ]


def test_right_pairs_are_the_text_and_half_are_wrong(tokenizer: TextTokenizer) -> None:
    source = segments(tokenizer, "next_segment")
    whole = tokenizer.encode(STORY)
    pairs = drawn(source, 0)
    assert all((one + other == whole[0]) == (not wrong) for one, other, wrong in pairs)
    assert 15 < sum(wrong for *_, wrong in pairs) < 45


def test_a_wrong_segment_is_the_end_of_another_text_in_the_same_language(tokenizer: TextTokenizer) -> None:
    source = segments(tokenizer, "next_segment")
    whole = tokenizer.encode(STORY)
    wrong = [other for _, other, is_wrong in drawn(source, 0) if is_wrong]
    assert all(other == whole[4][-len(other) :] for other in wrong)
    assert not any(is_wrong for *_, is_wrong in drawn(source, 3))  # the only text of its language


def test_exchanged_segments_are_of_one_text(tokenizer: TextTokenizer) -> None:
    whole = tokenizer.encode(STORY)
    for row in range(len(STORY)):
        pairs = drawn(segments(tokenizer, "segment_order"), row)
        assert {wrong for *_, wrong in pairs} == {0, 1}
        assert all((other + one if wrong else one + other) == whole[row] for one, other, wrong in pairs)


@pytest.mark.parametrize(
    ("row", "ends"),
    [
        (0, {"delight.", "again!"}),
        (1, {"memuaskan."}),
        (2, {"小了。", "很好。"}),
        (3, {"Vlada", "naj", "se", "raje", "ukvarja", "s"}),  # no sentence ends within: between words
    ],
)
def test_texts_are_cut_where_sentences_end(tokenizer: TextTokenizer, row: int, ends: set[str]) -> None:
    source = segments(tokenizer, "next_segment")
    firsts = {tokenizer.decode(one) for one, _, _ in drawn(source, row)}
    assert {next(end for end in ends if first.endswith(end)) for first in firsts} == ends


@pytest.mark.parametrize("room", [17, 6])
def test_what_is_too_long_is_cut_from_the_longer(tokenizer: TextTokenizer, room: int) -> None:
    source, wide = segments(tokenizer, "next_segment"), segments(tokenizer, "next_segment")
    source.room, cuts = room, 0  # as where two long texts give the segments
    for row in range(len(source)):
        for (one, other, _), (whole_one, whole_other, _) in zip(drawn(source, row), drawn(wide, row), strict=True):
            assert one == whole_one[: len(one)] and other == whole_other[: len(other)]
            if len(whole_one) + len(whole_other) > room:
                assert len(one) + len(other) == room
                assert len(one) == len(whole_one) or len(one) >= room // 2
                assert len(other) == len(whole_other) or len(other) >= room // 2
                cuts += 1
    assert cuts > 20


PAIRS = [
    ("房间太小了", "The room was a delight", "zh-en"),
    ("Vlada naj se raje ukvarja s tem", "I would not buy this", "sl-en"),
    ("这本书写得很好", "This book", "zh-en"),
    ("Odlična radio", "", "sl-en"),
]


def translated(tokenizer: TextTokenizer, max_length: int = 64) -> TranslationPairs:
    return TranslationPairs.build(iter(PAIRS), tokenizer, max_length)


def test_a_text_stands_before_its_translation_each_from_position_0(tokenizer: TextTokenizer) -> None:
    source = translated(tokenizer)
    assert len(source) == 3 and source.language_names == ("sl-en", "zh-en") and source.languages.tolist() == [1, 0, 1]
    made = batches(source, tokenizer, "translation", batch_size=3)
    batch, special = made.batch(0), tokenizer.special
    for row, number in enumerate(made.sample_ids(0)):
        pieces = [[special.bos, *ids, special.eos] for ids in tokenizer.encode(PAIRS[number][:2])]
        length = sum(map(len, pieces))
        assert batch["clean_ids"][row, :length].tolist() == [*pieces[0], *pieces[1]]
        assert (batch["clean_ids"][row, length:] == special.pad).all()
        assert batch["position_ids"][row, :length].tolist() == [*range(len(pieces[0])), *range(len(pieces[1]))]
        assert batch["segments"][row, :length].tolist() == [0] * len(pieces[0]) + [1] * len(pieces[1])
        assert (batch["segments"][row, length:] == -1).all() and batch["attention_mask"][row].sum() == length
    sides = batch["segments"].flatten()[batch["positions"]].tolist()
    rows = (batch["positions"] // batch["clean_ids"].shape[1]).tolist()
    assert {*zip(rows, sides, strict=True)} == {(row, side) for row in range(3) for side in range(2)}  # masked on both
    assert batch["totals"].tolist() == [3, int(batch["attention_mask"].sum()), len(batch["targets"])]


def test_long_sides_are_cut_and_counted(tokenizer: TextTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    source = translated(tokenizer, max_length=12)
    assert max(len(side) for row in range(3) for side in source.pair(row, np.random.default_rng())[:2]) == 4
    with pytest.raises(DataError, match="2 were read, none with words on both sides"):
        TranslationPairs.build([("a", "", "x-y"), ("", "b", "x-y")], tokenizer, 12)


@pytest.mark.parametrize("pairing", ["translation", "next_segment", "segment_order"])
def test_parts_of_a_step_are_the_whole(tokenizer: TextTokenizer, pairing: Pairing) -> None:
    source = translated(tokenizer) if pairing == "translation" else segments(tokenizer, pairing)
    made = batches(source, tokenizer, pairing, batch_size=2 if pairing == "translation" else 4)
    for step in (3, 0):
        whole = made.batch(step)
        shards = [made.batch(step, shard, 2) for shard in range(2)]
        again = batches(source, tokenizer, pairing, made.batch_size)
        for name, values in again.batch(step).items():
            assert (values == whole[name]).all()
        assert sum(len(part["targets"]) for part in shards) == len(whole["targets"])
        assert [part["totals"].tolist() for part in shards] == [whole["totals"].tolist()] * 2
        half = made.batch_size // 2
        for number, part in enumerate(shards):
            length = part["clean_ids"].shape[1]
            rows = slice(number * half, (number + 1) * half)
            for name in ("input_ids", "clean_ids", "coins", "segments"):
                assert (part[name] == whole[name][rows, :length]).all()
            assert (part["labels"] == whole["labels"][rows]).all()
            assert (part["clean_ids"].flatten()[part["positions"]] == part["targets"]).all()
        assert made.num_tokens(step) == int(whole["attention_mask"].sum())


def test_segments_share_their_start(tokenizer: TextTokenizer) -> None:
    batch, special = batches(segments(tokenizer, "next_segment"), tokenizer, "next_segment").batch(0), tokenizer.special
    assert ((batch["clean_ids"] == special.bos).sum(dim=1) == 1).all()
    assert ((batch["clean_ids"] == special.eos).sum(dim=1) == 2).all()
    assert "position_ids" not in batch


def corpus(rows: list[tuple[str, str, str]]) -> Corpus:
    columns = pd.DataFrame(rows, columns=["text", "language", "group"])
    return Corpus(columns.assign(source="x", label=-1))


def test_translations_are_texts_of_one_group(tokenizer: TextTokenizer) -> None:
    rows = [("one", "en", "1"), ("two", "en", "2"), ("eins", "de", "1"), ("ena", "sl", "1"), ("dva", "sl", "2")]
    assert [*translations(corpus(rows))] == [("one", "eins", "en-de"), ("one", "ena", "en-sl"), ("two", "dva", "en-sl")]
    first = [("eins", "one", "de-en"), ("eins", "ena", "de-sl")]
    assert [*translations(corpus(rows), pivot="de")] == [*first, ("two", "dva", "en-sl")]
    with pytest.raises(DataError, match="all texts are in en, none in two of them; add a source of parallel texts"):
        [*translations(corpus(rows[:2]))]
    with pytest.raises(DataError, match="no texts in language 'zh'"):
        [*translations(corpus(rows), pivot="zh")]


def test_the_language_of_most_single_texts_is_no_pivot(caplog: pytest.LogCaptureFixture) -> None:
    """Texts of cards all have a group, most of them one of their own."""
    alone = [(f"zh {number}", "zh", f"z{number}") for number in range(9)]
    pairs = [("ena", "sl", "1"), ("one", "en", "1"), ("uno", "it", "2"), ("dva", "sl", "2"), ("two", "en", "2")]
    without = [("tre", "it", "3"), ("drei", "de", "3"), ("tri", "sl", "4"), ("trije", "sl", "4"), ("three", "en", "4")]
    with caplog.at_level("INFO", logger="fewlabel"):
        found = [*translations(corpus(alone + pairs + without))]
    first = [("two", "uno", "en-it"), ("one", "ena", "en-sl"), ("two", "dva", "en-sl"), ("three", "tri", "en-sl")]
    assert found == [*first, ("tre", "drei", "it-de")]  # neither is the pivot
    assert "9 of 13 groups are in one language alone" in caplog.text


def test_pairs_with_one_first_text_are_a_group_in_every_part_of_a_step(tokenizer: TextTokenizer) -> None:
    rows = [("The film", "Der Film", "en-de"), ("This book", "Das Buch", "en-de"), ("The film", "Le film", "en-fr"),
            ("again", "wieder", "en-de")]  # fmt: skip
    source = TranslationPairs.build(rows, tokenizer, 64)
    assert source.groups.tolist() == [0, 1, 0, 2]
    made = batches(source, tokenizer, "translation")
    numbers = torch.cat([made.batch(0, shard, 2)["groups"] for shard in range(2)])
    assert torch.equal(numbers, made.batch(0)["groups"])
    assert numbers.tolist() == source.groups[made.sample_ids(0)].tolist()
