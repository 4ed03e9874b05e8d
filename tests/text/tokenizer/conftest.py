"""Tokenizers of the sample, unigram and BPE."""

import pytest

from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import SentencePieceTokenizer


@pytest.fixture(scope="session")
def bpe(sample_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Byte-pair encoding."""
    return train_tokenizer(sample_texts, TokenizerConfig(model="bpe", vocab_size=700), tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="session", params=["unigram", "bpe"])
def either(
    request: pytest.FixtureRequest, tokenizer: SentencePieceTokenizer, bpe: SentencePieceTokenizer
) -> SentencePieceTokenizer:
    """One after the other."""
    return bpe if request.param == "bpe" else tokenizer
