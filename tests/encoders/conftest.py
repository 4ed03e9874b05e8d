"""A small tokenizer for text encoders."""

import pytest

from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import TextTokenizer

TEXTS = [
    f"{start} {end}"
    for start in ("the film", "this book", "那本书", "ta film", "hotel ini")
    for end in ("is good.", "很好！", "je dober", "buruk sekali", "was not bad, really")
]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """25 short texts."""
    return TEXTS


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """A certified tokenizer of them."""
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=400), tmp_path_factory.mktemp("tokenizer"))
