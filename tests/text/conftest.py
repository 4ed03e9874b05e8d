"""A small corpus in four languages and its tokenizer."""

import pytest

from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import TextTokenizer

SAMPLES = {
    "en": ["The {} was a delight from start to finish.", "I would not buy this {} again, it broke in a day!"],
    "zh": ["这本{}写得很好，我非常喜欢。", "房间太小了，{}也不干净，下次不会再来。"],
    "id": ["Pelayanan {} ini sangat memuaskan sekali", "Jaringan {} hari ini lambat banget, kecewa..."],
    "sl": ["Vlada naj se raje ukvarja z {}, ne s tem.", "Odlična {}, čestitke vsem igralcem!"],
}
NOUNS = (
    "film",
    "book",
    "phone",
    "hotel",
    "radio",
    "story",
    "city",
    "game",
    "song",
    "train",
    "kamera",
    "酒店",
    "书",
    "služba",
)


@pytest.fixture(scope="session")
def sample_texts() -> list[str]:
    """112 short texts, four languages in turn."""
    return [text.format(noun) for noun in NOUNS for texts in zip(*SAMPLES.values(), strict=True) for text in texts]


@pytest.fixture(scope="session")
def sample_languages() -> list[str]:
    """The language of each of them."""
    return [language for _ in NOUNS for _ in range(2) for language in SAMPLES]


@pytest.fixture(scope="session")
def tokenizer(sample_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """A certified tokenizer of the sample."""
    return train_tokenizer(sample_texts, TokenizerConfig(vocab_size=700), tmp_path_factory.mktemp("tokenizer"))
