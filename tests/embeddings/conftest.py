"""The card of words in context, and a small encoder whose tokenizer was trained on its sentences."""

import pytest

from toolkit.cards import fetch, load_card
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.text import Corpus, TokenizerConfig, read_corpus, train_tokenizer


@pytest.fixture(scope="session")
def words() -> Corpus:
    """640 sentences in four languages; label is the sense, source the word."""
    card = load_card("words_in_context")
    return read_corpus(card, fetch(card))


@pytest.fixture(scope="session")
def encoder(words: Corpus, tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """Random weights."""
    tokenizer = train_tokenizer(words.texts, TokenizerConfig(vocab_size=2500), tmp_path_factory.mktemp("tokenizer"))
    config = TextEncoderConfig(num_layers=2, hidden_size=32, num_heads=2, max_length=64)
    return TextEncoder.from_scratch(config, tokenizer, seed=3).eval()
