from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.encoders.text.foreign import foreign_tokenizer
from toolkit.errors import CheckpointError
from toolkit.text import TokenizerConfig, load_tokenizer, train_tokenizer
from toolkit.text.tokenizer import ForeignTokenizer, TextTokenizer
from toolkit.text.tokenizer.extension import extend_tokenizer

OLD = ["the film is good", "this book was not bad", "the hotel is good", "a bad film"] * 20
NEW = ["Schmetterlinge fliegen über Wiesen", "Wiesen und Schmetterlinge im Sommer", "Wir fliegen im Sommer"] * 20
CONFIG = TokenizerConfig(vocab_size=420, num_generated=200)


def assert_extends(extended: TextTokenizer, old: TextTokenizer) -> None:
    """Old ids stay, new pieces are used, and the old texts are spelt as before."""
    assert len(extended) > len(old)
    assert [extended.piece(i) for i in range(len(old))] == [old.piece(i) for i in range(len(old))]
    assert extended.special == old.special
    assert extended.encode(OLD[:4]) == old.encode(OLD[:4])
    before, after = (sum(map(len, tokenizer.encode(NEW[:3]))) for tokenizer in (old, extended))
    assert after < 0.6 * before
    assert extended.maskable[len(old) :].all()


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_own_tokenizers_get_new_pieces_and_a_certificate(model: str, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"model": model})
    old = train_tokenizer(OLD, config, tmp_path / "old")
    extended = extend_tokenizer(old, NEW, config, tmp_path / "new")
    assert_extends(extended, old)
    opened = load_tokenizer(tmp_path / "new")
    assert opened.certificate["differing"] == opened.certificate["lossy"] == 0
    assert opened.encode(NEW) == extended.encode(NEW)
    plain = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert plain(NEW[:3], add_special_tokens=False)["input_ids"] == extended.encode(NEW[:3])
    assert [extended.decode(ids) for ids in extended.encode(NEW[:3])] == NEW[:3]


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
def test_foreign_tokenizers_get_new_pieces(kind: str, tmp_path: Path) -> None:
    old = ForeignTokenizer(foreign_tokenizer(kind, [*OLD, "abcdefghijklmnopqrstuvwxyzüSWRI"]))
    extended = extend_tokenizer(old, NEW, CONFIG, tmp_path / "new")
    assert_extends(extended, old)
    plain = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert plain(NEW[:3], add_special_tokens=False)["input_ids"] == extended.encode(NEW[:3])


def test_a_byte_level_tokenizer_cannot_be_extended(tmp_path: Path) -> None:
    old = ForeignTokenizer(foreign_tokenizer("modernbert", OLD))
    with pytest.raises(CheckpointError, match="cannot be extended; replace it"):
        extend_tokenizer(old, NEW, CONFIG, tmp_path / "new")
