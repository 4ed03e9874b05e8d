"""A vocabulary learnt by SentencePiece from a sample of a corpus, made a fast tokenizer, and certified."""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from pydantic import Field

from toolkit.config import Section
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.text.tokenizer.certificate import certify
from toolkit.text.tokenizer.fast import BOS, EOS, MASK, PAD, SPECIAL_TOKENS, UNK, build_fast_tokenizer, round_scores
from toolkit.text.tokenizer.loading import load_tokenizer
from toolkit.text.tokenizer.normalizing import Normalizer, build_normalizer
from toolkit.text.tokenizer.sampling import Sample, sample_lines
from toolkit.text.tokenizer.sentencepiece import SentencePieceTokenizer

REQUIRED_CHARACTERS = "".join(sorted(set("".join(SPECIAL_TOKENS) + "<0x0123456789ABCDEF>")))
"""What special tokens and bytes are spelt with: a text that holds such a name must have other pieces to be
made of."""
_SKIPPED_BY_TRAINER = "\u2585"
"""SentencePiece's mark of what is unknown: its trainer leaves out each line that holds one, without a word."""


class TokenizerConfig(Section):
    """How the vocabulary is learnt."""

    model: Literal["unigram", "bpe"] = "unigram"
    """Unigram language model (Kudo, 2018, arXiv:1804.10959) or byte-pair encoding (Sennrich et al., 2016,
    arXiv:1508.07909)."""
    vocab_size: int = Field(16000, ge=400)
    """Pieces, special tokens and 256 bytes included; fewer where the corpus does not hold as many."""
    lowercase: bool = False
    """Fold case: fewer pieces for the same words where capitals carry no meaning for the task."""
    character_coverage: float = Field(0.9995, ge=0.9, le=1)
    """Share of the corpus's characters that get pieces of their own; the rest are spelt in bytes."""
    max_characters: int = Field(50_000_000, ge=1000)
    """Of the corpus, how much is learnt from: lines drawn at random, an even share for each language. SentencePiece
    holds all of it in memory, 10 to 30 bytes a character."""
    num_threads: int = Field(1, ge=1)
    """Threads of the trainer. The vocabulary depends on it, so it is part of the configuration."""
    num_generated: int = Field(2000, ge=0)
    """Strings of the seeded generator that the certificate covers, besides the texts."""


def train_tokenizer(
    texts: Iterable[str] | Iterable[tuple[str, ...]],
    config: TokenizerConfig,
    folder: Path,
    seed: int = 0,
) -> SentencePieceTokenizer:
    """Samples, trains, converts, certifies on the sample and on strings made to break it, and writes it to `folder`.

    Args:
        texts: The corpus, read once from front to back: texts, or rows of text and language, so that all languages
            are heard.
        config: Vocabulary.
        folder: Gets `tokenizer.json`, `tokenizer_config.json`, `sentencepiece.model` and the certificate.
        seed: Of the sample and of the generated strings.

    Raises:
        DataError: No texts in a language, or too few to learn from.
        CheckpointError: The two sides differ on some text: the certificate says on which.
    """
    rows = ((row, "und") if isinstance(row, str) else row[:2] for row in texts)
    sample = sample_lines(rows, config.max_characters, seed)
    _refuse_empty(sample)
    normalizer = build_normalizer(config.lowercase)
    spiece = round_scores(train_sentencepiece(map(Normalizer(normalizer), sample.lines), config))
    tokenizer = SentencePieceTokenizer(build_fast_tokenizer(spiece, normalizer), spiece)
    if len(tokenizer) < config.vocab_size:
        log.warning(
            "tokenizer.vocab_size: %d pieces were asked for and the texts hold %d; the vocabulary is that small (give "
            "it more text, or ask for fewer)",
            config.vocab_size,
            len(tokenizer),
        )
    training: dict[str, Any] = {"config": config.model_dump(mode="json"), "seed": seed, "languages": sample.counts}
    tokenizer.certificate = certify(tokenizer, sample.lines, config.num_generated, seed) | {"training": training}
    tokenizer.save(Path(folder))
    return load_tokenizer(folder)  # type: ignore[return-value]


def train_sentencepiece(lines: Iterable[str], config: TokenizerConfig) -> bytes:
    """A model of lines that are normalised already.

    Raises:
        DataError: The lines do not suffice for a vocabulary, or the vocabulary not for their characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line.replace(_SKIPPED_BY_TRAINER, " ") for line in lines if line),
            model_writer=model,
            model_type=config.model,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            byte_fallback=True,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            control_symbols=[SPECIAL_TOKENS[MASK]],
            required_chars=REQUIRED_CHARACTERS,
            max_sentence_length=2**30,  # in bytes; longer lines would be dropped
            num_threads=config.num_threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(_remedy(str(error), config)) from None
    return model.getvalue()


def _refuse_empty(sample: Sample) -> None:
    empty = [language for language, count in sample.counts.items() if not count["lines"]]
    if len(empty) == len(sample.counts):
        raise DataError("the corpus is empty: no text to train a tokenizer on")
    if empty:
        raise DataError(
            f"language {empty[0]!r} is empty: none of its {sample.counts[empty[0]]['texts']} texts has a character "
            "that can be seen; leave it out, or look at its source"
        )


def _remedy(reason: str, config: TokenizerConfig) -> str:
    too_small = re.search(r"smaller than required_chars\. (\d+) vs (\d+)", reason)
    if too_small:
        return (
            f"tokenizer.vocab_size: {config.vocab_size} pieces do not hold the texts' {too_small[2]} characters, bytes "
            f"and special tokens; ask for more, or lower tokenizer.character_coverage ({config.character_coverage})"
        )
    return f"no vocabulary of {config.vocab_size} pieces from these texts: {reason.strip().splitlines()[-1]}"
