"""From texts to a tokenizer: the same each time, and what is refused."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import SentencePieceTokenizer
from toolkit.text.tokenizer.certificate import CERTIFICATE

SMALL = TokenizerConfig(vocab_size=700, num_generated=50)


def test_training_is_reproducible(
    tokenizer: SentencePieceTokenizer, bpe: SentencePieceTokenizer, sample_texts: list[str], tmp_path: Path
) -> None:
    for model, before in (("unigram", tokenizer), ("bpe", bpe)):
        again = train_tokenizer(sample_texts, SMALL.model_copy(update={"model": model}), tmp_path / model)
        assert again.spiece == before.spiece


def test_a_stream_is_read_once(sample_texts: list[str], sample_languages: list[str], tmp_path: Path) -> None:
    seen = []

    def stream() -> Iterator[tuple[str, str]]:
        for row in zip(sample_texts, sample_languages, strict=True):
            seen.append(row)
            yield row

    trained = train_tokenizer(stream(), SMALL, tmp_path)
    assert len(seen) == len(sample_texts)
    recorded = json.loads((tmp_path / CERTIFICATE).read_text(encoding="utf-8"))["training"]
    assert recorded["config"]["num_threads"] == 1 and recorded["seed"] == 0
    assert recorded["languages"]["zh"] == {"texts": 28, "empty": 0, "split": 0, "lines": 28, "kept": 28}
    assert trained.certificate is not None and trained.certificate["training"] == recorded


def test_lowercase_is_part_of_the_tokenizer(sample_texts: list[str], tmp_path: Path) -> None:
    folded = train_tokenizer(sample_texts, TokenizerConfig(vocab_size=500, lowercase=True), tmp_path)
    assert folded.fast("THE FILM")["input_ids"] == folded.fast("the film")["input_ids"]


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        train_tokenizer(["", " "], SMALL, tmp_path)
    with pytest.raises(DataError, match="the corpus is empty"):
        train_tokenizer([], SMALL, tmp_path)


def test_an_empty_language_is_named(sample_texts: list[str], tmp_path: Path) -> None:
    rows = [*((text, "en") for text in sample_texts), ("", "hr"), ("\u3000", "hr")]
    with pytest.raises(DataError, match=r"language 'hr' is empty: none of its 2 texts .* leave it out"):
        train_tokenizer(rows, SMALL, tmp_path)


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_a_vocabulary_that_the_texts_cannot_fill_is_smaller_with_a_warning(
    model: str,
    sample_texts: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("fewlabel"), "propagate", True)
    config = TokenizerConfig(model=model, vocab_size=50_000)
    trained = train_tokenizer(sample_texts, config, tmp_path)
    assert 400 < len(trained) < 2000
    assert f"50000 pieces were asked for and the texts hold {len(trained)}" in caplog.text


def test_a_vocabulary_too_small_for_the_characters_is_refused(tmp_path: Path) -> None:
    texts = ["".join(chr(0x4E00 + 20 * row + place) for place in range(20)) for row in range(100)]
    config = TokenizerConfig(vocab_size=400, character_coverage=1.0)
    with pytest.raises(DataError, match=r"tokenizer\.vocab_size: 400 pieces .* 2\d\d\d characters.*character_coverage"):
        train_tokenizer(texts, config, tmp_path)


def test_a_line_with_sentencepieces_own_mark_is_learnt_from(tmp_path: Path) -> None:
    """Its trainer leaves such lines out without a word."""
    texts = ["plain words", "more plain words"] * 30 + [f"Ж▅Щ {word}" for word in ("anna", "bert", "carl")] * 10
    trained = train_tokenizer(texts, TokenizerConfig(vocab_size=400), tmp_path)
    assert not trained.is_byte[trained.encode(["Ж Щ"])[0]].any()
    assert trained.decode(trained.encode(["a▅b"])[0]) == "a▅b"
