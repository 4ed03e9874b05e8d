from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.text.tokenizer.test_foreign import KINDS as FOREIGN
from toolkit.text.masking import MaskingConfig, WordBoundaries, mask_tokens, masked_shares
from toolkit.text.tokenizer import TextTokenizer, load_foreign_tokenizer


def padded(tokenizer: TextTokenizer, texts: list[str]) -> np.ndarray:
    special = tokenizer.special
    ids = [[special.bos, *text, special.eos] for text in tokenizer.encode(texts)]
    longest = max(map(len, ids))
    return np.array([text + [special.pad] * (longest - len(text)) for text in ids])


def words_of(tokenizer: TextTokenizer, text: str) -> list[str]:
    ids = np.array(tokenizer.encode([text])[0])
    numbers = WordBoundaries.of(tokenizer).words(ids, np.arange(len(ids)) == 0)
    return [tokenizer.decode(ids[numbers == n]).strip() for n in range(numbers.max() + 1)]


def words_through(boundaries: WordBoundaries, ids: np.ndarray) -> np.ndarray:
    """Word of each maskable token of a batch, counted through it; -1 elsewhere."""
    where = np.flatnonzero(boundaries.maskable[ids.ravel()])
    numbers = np.full(ids.size, -1)
    numbers[where] = boundaries.words(ids.ravel()[where], np.diff(where, prepend=-2) > 1)
    return numbers


def test_words_are_what_stands_between_spaces(tokenizer: TextTokenizer) -> None:
    assert words_of(tokenizer, "xylophone quartz delight zebra") == [
        "xylophone",
        "quartz",
        "delight",
        "zebra",
    ]


def test_punctuation_stands_alone(tokenizer: TextTokenizer) -> None:
    assert words_of(tokenizer, "broke!again") == ["broke", "!", "again"]


@pytest.mark.parametrize("text", ["房间太小了", "这本书写得", "ครับผม", "ひらがな"])
def test_scripts_without_spaces_do_not_make_one_word(tokenizer: TextTokenizer, text: str) -> None:
    assert "".join(words_of(tokenizer, text)) == text
    assert len(words_of(tokenizer, text)) > 1


def test_a_character_in_bytes_is_one_word(tokenizer: TextTokenizer) -> None:
    assert words_of(tokenizer, "鬱龘")[-2:] == ["鬱", "龘"]


@pytest.mark.parametrize("unit", ["word", "span", "token"])
def test_targets_are_true_and_nothing_else_changes(
    tokenizer: TextTokenizer, sample_texts: list[str], unit: Any
) -> None:
    ids = padded(tokenizer, sample_texts)
    boundaries = WordBoundaries.of(tokenizer)
    config = MaskingConfig(unit=unit, share=0.3)
    corrupted, positions, targets = mask_tokens(ids, boundaries, config, np.random.default_rng(0))
    chosen = np.zeros(ids.size, dtype=bool)
    chosen[positions] = True
    assert np.array_equal(ids.ravel()[positions], targets)
    assert np.array_equal(corrupted.ravel()[~chosen], ids.ravel()[~chosen])
    assert boundaries.maskable[targets].all()
    assert chosen.reshape(ids.shape).any(axis=1).all()  # every text has a target
    words = words_through(boundaries, ids)
    whole = all(chosen[words == word].all() for word in np.unique(words[chosen]))
    assert whole == (unit != "token")


@pytest.mark.parametrize("unit", ["word", "span", "token"])
def test_shares_hold_on_average(tokenizer: TextTokenizer, sample_texts: list[str], unit: Any) -> None:
    ids = padded(tokenizer, [" ".join(sample_texts[i : i + 6]) for i in range(0, len(sample_texts), 6)])
    boundaries = WordBoundaries.of(tokenizer)
    config, mask = MaskingConfig(unit=unit), tokenizer.special.mask
    masked = kept = random = chosen = 0
    for seed in range(40):
        corrupted, positions, targets = mask_tokens(ids, boundaries, config, np.random.default_rng(seed))
        now = corrupted.ravel()[positions]
        chosen += len(positions)
        masked += int((now == mask).sum())
        kept += int((now == targets).sum())
        random += int(((now != mask) & (now != targets)).sum())
        assert boundaries.maskable[now[now != mask]].all()
    assert chosen / (40 * boundaries.maskable[ids].sum()) == pytest.approx(0.15, abs=0.015)
    assert masked / chosen == pytest.approx(0.8, abs=0.03)
    assert kept / chosen == pytest.approx(0.1, abs=0.02)
    assert random / chosen == pytest.approx(0.1, abs=0.02)


def plain(num_words: int) -> WordBoundaries:
    """A vocabulary in which each piece but the first four is a word of its own."""
    maskable = np.arange(4 + num_words) >= 4
    return WordBoundaries(maskable, np.zeros(4 + num_words, bool), maskable, mask_id=3)


def runs(chosen: np.ndarray) -> list[int]:
    """Lengths of stretches of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, chosen.astype(int), 0]))
    return (edges[1::2] - edges[::2]).tolist()


def test_spans_are_geometric_and_3_8_words_long() -> None:
    """SpanBERT, section 3.1; spans are so few that they seldom touch."""
    boundaries, config = plain(50), MaskingConfig(unit="span", share=0.02)
    lengths = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ids = rng.integers(4, 54, size=(1, 2000))
        _, positions, _ = mask_tokens(ids, boundaries, config, rng)
        lengths += runs(np.isin(np.arange(2000), positions))
    chances = 0.8 ** np.arange(10) / (0.8 ** np.arange(10)).sum()
    assert chances @ np.arange(1, 11) == pytest.approx(3.8, abs=0.05)
    assert np.mean(lengths) == pytest.approx(3.8, rel=0.1)
    assert np.mean(np.array(lengths) == 1) == pytest.approx(chances[0], abs=0.03)
    assert np.mean(np.array(lengths) > 10) < 0.04


def test_a_span_has_one_fate() -> None:
    boundaries = plain(50)
    config = MaskingConfig(unit="span", share=0.05, mask_share=0.5, random_share=0)
    rng = np.random.default_rng(0)
    ids = rng.integers(4, 54, size=(1, 5000))
    corrupted, positions, _ = mask_tokens(ids, boundaries, config, rng)
    now = corrupted.ravel()[positions] == 3
    neighbours = np.diff(positions) == 1
    assert 0.3 < now.mean() < 0.7
    assert (now[1:] == now[:-1])[neighbours].mean() > 0.85  # two spans may touch


def test_a_span_is_no_longer_than_its_text_allows() -> None:
    boundaries, config = plain(50), MaskingConfig(unit="span", share=0.2, span_end=0.01)
    masked = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ids = rng.integers(4, 54, size=(8, 10))
        _, positions, _ = mask_tokens(ids, boundaries, config, rng)
        masked += np.bincount(positions // 10, minlength=8).tolist()
    assert {*masked} <= {1, 2, 3} and np.mean(masked) == pytest.approx(2, abs=0.3)


def test_what_is_drawn_does_not_depend_on_the_layout(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    """Texts end to end without padding get the masks that they get in rows."""
    ids = padded(tokenizer, sample_texts)
    boundaries = WordBoundaries.of(tokenizer)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    there = ids != tokenizer.special.pad
    for unit in ("word", "span", "token"):
        config = MaskingConfig(unit=unit)  # type: ignore[arg-type]
        corrupted, _, targets = mask_tokens(ids, boundaries, config, np.random.default_rng(5))
        flat, _, flat_targets = mask_tokens(ids[there], boundaries, config, np.random.default_rng(5), texts=rows[there])
        assert np.array_equal(corrupted[there], flat) and np.array_equal(targets, flat_targets)


def test_texts_of_one_row_have_shares_of_their_own() -> None:
    ids, config = np.full((1, 40), 7), MaskingConfig(unit="token", share=0.2)
    texts = np.repeat([0, 1], [10, 30])[None]
    for seed in range(10):
        _, positions, _ = mask_tokens(ids, plain(50), config, np.random.default_rng(seed), texts=texts)
        assert np.bincount(positions >= 10).tolist() == [2, 6]


def test_words_end_with_their_text() -> None:
    """The second text begins with a piece that opens no word."""
    opens = np.arange(9) == 7
    boundaries = WordBoundaries(opens, np.zeros(9, bool), np.arange(9) >= 4, mask_id=3)
    ids, texts = np.array([[7, 8, 7, 8, 8, 8, 7, 8]]), np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    chosen = {
        tuple(mask_tokens(ids, boundaries, MaskingConfig(), np.random.default_rng(seed), texts=texts)[1].tolist())
        for seed in range(40)
    }
    assert chosen == {(one, one + 1, other, other + 1) for one in (0, 2) for other in (4, 6)}


def test_the_share_follows_its_schedule() -> None:
    config = MaskingConfig(share=0.3, end_share=0.15)
    assert [config.share_at(progress) for progress in (0, 0.5, 1)] == pytest.approx([0.3, 0.225, 0.15])
    assert MaskingConfig(share=0.2).share_at(0.7) == 0.2
    ids = np.random.default_rng(0).integers(4, 54, size=(20, 100))
    for share in (0.1, 0.4):
        _, positions, _ = mask_tokens(ids, plain(50), config, np.random.default_rng(0), share=share)
        assert len(positions) == pytest.approx(share * ids.size, rel=0.02)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="come to more than 1"):
        MaskingConfig(mask_share=0.8, random_share=0.3)


def test_random_replacements_come_from_the_whole_vocabulary(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    ids = padded(tokenizer, sample_texts)
    boundaries = WordBoundaries.of(tokenizer)
    config = MaskingConfig(mask_share=0, random_share=1)
    drawn = np.concatenate(
        [(c := mask_tokens(ids, boundaries, config, np.random.default_rng(s)))[0].ravel()[c[1]] for s in range(20)]
    )
    assert boundaries.maskable[drawn].all()
    assert len(np.unique(drawn)) > 0.9 * boundaries.maskable.sum()


@pytest.mark.parametrize("kind", FOREIGN)
def test_special_and_unused_pieces_are_the_tokenizers_own(kind: str, sample_texts: list[str], tmp_path: Path) -> None:
    """Tokenizers as BERT, RoBERTa and XLM-R have them: special ids elsewhere, and unused ones."""
    FOREIGN[kind](sample_texts).save_pretrained(tmp_path)
    tokenizer = load_foreign_tokenizer(tmp_path)
    ids, boundaries = padded(tokenizer, sample_texts), WordBoundaries.of(tokenizer)
    config = MaskingConfig(share=0.5, mask_share=0.5, random_share=0.5)
    corrupted, positions, targets = mask_tokens(ids, boundaries, config, np.random.default_rng(0))
    now = corrupted.ravel()[positions]
    special = {token for token in tokenizer.fast.all_special_ids if token != tokenizer.special.mask}
    assert not special & {*now.tolist(), *targets.tolist()}
    assert (now == tokenizer.fast.mask_token_id).mean() == pytest.approx(0.5, abs=0.1)
    unused = {index for index in range(len(tokenizer)) if "unused" in tokenizer.fast.convert_ids_to_tokens(index)}
    assert not unused & {*now.tolist()} and (kind == "wordpiece") == bool(unused)
    assert words_of(tokenizer, "delight from start") == ["delight", "from", "start"]


def test_texts_without_words_mask_nothing(tokenizer: TextTokenizer) -> None:
    special = tokenizer.special
    ids = np.array([[special.bos, special.eos, special.pad]])
    corrupted, positions, targets = mask_tokens(
        ids, WordBoundaries.of(tokenizer), MaskingConfig(), np.random.default_rng(0)
    )
    assert np.array_equal(corrupted, ids) and not len(positions) and not len(targets)


def test_achieved_shares_are_counted_by_language() -> None:
    """Two rows of two texts each, in three languages."""
    maskable = np.arange(10) >= 4
    batch = {
        "clean_ids": np.array([[0, 5, 5, 1, 0, 5, 1], [0, 5, 1, 0, 5, 5, 1]]),
        "documents": np.array([[0, 0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3, 3]]),
        "languages": np.array([0, 1, 1, 3]),
        "positions": np.array([1, 8, 11, 12]),
    }
    names = ("de", "en", "sl", "zh")
    assert masked_shares([batch], maskable, names) == {"de": 0.5, "en": 0.5, "zh": 1.0}
    rows = {name: batch[name] for name in ("clean_ids", "positions")} | {"languages": np.array([2, 3])}
    assert masked_shares([rows, rows], maskable, names) == {"sl": 1 / 3, "zh": 1.0}
