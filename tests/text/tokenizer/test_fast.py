"""Where the two implementations would choose differently, they are made to agree."""

from pathlib import Path

import pytest

from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import SentencePieceTokenizer, build_normalizer
from toolkit.text.tokenizer.fast import build_fast_tokenizer, round_scores
from toolkit.text.tokenizer.training import train_sentencepiece

UNITS = ("..", ".!", "!.", "ha", "ab", "aba", "-=-", "?!?")


@pytest.fixture(scope="module")
def repeats() -> list[str]:
    """Texts full of repeats, whose segmentations tie."""
    runs = [unit * count for unit in UNITS for count in range(1, 9)]
    return [f"{first} {second}{third}" for first in runs for second in runs[::3] for third in runs[::7]]


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_repeats_are_split_alike(model: str, repeats: list[str], tmp_path: Path) -> None:
    trained = train_tokenizer(repeats, TokenizerConfig(model=model, vocab_size=450, num_generated=0), tmp_path)
    periodic = [piece for piece in map(trained.piece, range(len(trained))) if piece in (piece * 2)[1:-1]]
    assert len(periodic) > 10  # they are in use, and there is something to tie
    texts = [*repeats, *("".join(UNITS[(row * step) % 8] for step in range(row % 40)) for row in range(2000))]
    assert trained.fast(texts, add_special_tokens=False)["input_ids"] == trained.encode(texts)


def test_without_rounding_they_differ(repeats: list[str]) -> None:
    """What the rounding is for."""
    spiece = train_sentencepiece(repeats, TokenizerConfig(vocab_size=450))
    normalizer = build_normalizer(lowercase=False)
    differing = {}
    for name, model in (("raw", spiece), ("rounded", round_scores(spiece))):
        trained = SentencePieceTokenizer(build_fast_tokenizer(model, normalizer), model)
        ours = trained.fast(repeats, add_special_tokens=False)["input_ids"]
        differing[name] = sum(a != b for a, b in zip(ours, trained.encode(repeats), strict=True))
    assert differing["rounded"] == 0 < differing["raw"]


def test_a_long_run_of_a_rare_letter_is_spelt_alike(tmp_path: Path) -> None:
    """Sixteen rare letters in a row score lower than any fixed distance below the minimum."""
    texts = [f"{word} goes home early" for word in ("anna", "bert", "carl", "dora")] * 30 + ["j" * 16, "q" * 16] * 20
    trained = train_tokenizer([*texts, "j" * 200, "q" * 97], TokenizerConfig(vocab_size=400), tmp_path)
    for text in ("j" * 150, "q" * 33, "anna " + "j" * 64):
        assert trained.fast.encode(text, add_special_tokens=False) == trained.encode([text])[0]
