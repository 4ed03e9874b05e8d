import numpy as np
import pytest

from toolkit.text.masking import FIRST_REGULAR, MaskingConfig, WordBoundaries, mask_tokens
from toolkit.text.tokenizer import BOS, EOS, MASK, PAD, TextTokenizer


def padded(tokenizer: TextTokenizer, texts: list[str]) -> np.ndarray:
    ids = [[BOS, *text, EOS] for text in tokenizer.encode(texts)]
    longest = max(map(len, ids))
    return np.array([text + [PAD] * (longest - len(text)) for text in ids])


def words_of(tokenizer: TextTokenizer, text: str) -> list[str]:
    ids = padded(tokenizer, [text])
    numbers = WordBoundaries.of(tokenizer).words(ids, ids >= FIRST_REGULAR)[0]
    return [tokenizer.pieces.decode(ids[0][numbers == n].tolist()) for n in range(numbers.max() + 1)]


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


def test_whole_words_are_masked_and_targets_are_true(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    ids = padded(tokenizer, sample_texts)
    boundaries = WordBoundaries.of(tokenizer)
    corrupted, positions, targets = mask_tokens(ids, boundaries, MaskingConfig(share=0.3), np.random.default_rng(0))
    chosen = np.zeros(ids.size, dtype=bool)
    chosen[positions] = True
    words = boundaries.words(ids, ids >= FIRST_REGULAR).ravel()
    for word in np.unique(words[chosen]):
        assert chosen[words == word].all()
    assert np.array_equal(ids.ravel()[positions], targets)
    assert np.array_equal(corrupted.ravel()[~chosen], ids.ravel()[~chosen])
    assert (targets >= FIRST_REGULAR).all()
    assert chosen.reshape(ids.shape).any(axis=1).all()  # every text has a target


def test_shares_hold_on_average(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    ids = padded(tokenizer, [" ".join(sample_texts[i : i + 6]) for i in range(0, len(sample_texts), 6)])
    boundaries = WordBoundaries.of(tokenizer)
    masked = kept = random = chosen = 0
    for seed in range(40):
        corrupted, positions, targets = mask_tokens(ids, boundaries, MaskingConfig(), np.random.default_rng(seed))
        now = corrupted.ravel()[positions]
        chosen += len(positions)
        masked += int((now == MASK).sum())
        kept += int((now == targets).sum())
        random += int(((now != MASK) & (now != targets)).sum())
        assert (now[now != MASK] >= FIRST_REGULAR).all()
    assert chosen / (40 * (ids >= FIRST_REGULAR).sum()) == pytest.approx(0.15, abs=0.015)
    assert masked / chosen == pytest.approx(0.8, abs=0.03)
    assert kept / chosen == pytest.approx(0.1, abs=0.02)
    assert random / chosen == pytest.approx(0.1, abs=0.02)


def test_random_replacements_come_from_the_whole_vocabulary(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    ids = padded(tokenizer, sample_texts)
    boundaries = WordBoundaries.of(tokenizer)
    config = MaskingConfig(mask_share=0, random_share=1)
    drawn = np.concatenate(
        [(c := mask_tokens(ids, boundaries, config, np.random.default_rng(s)))[0].ravel()[c[1]] for s in range(20)]
    )
    assert drawn.min() < FIRST_REGULAR + 20 and drawn.max() > len(tokenizer) - 20
    assert len(np.unique(drawn)) > 0.9 * (len(tokenizer) - FIRST_REGULAR)


def test_texts_without_words_mask_nothing(tokenizer: TextTokenizer) -> None:
    ids = np.array([[BOS, EOS, PAD]])
    corrupted, positions, targets = mask_tokens(
        ids, WordBoundaries.of(tokenizer), MaskingConfig(), np.random.default_rng(0)
    )
    assert np.array_equal(corrupted, ids) and not len(positions) and not len(targets)
