"""The generator keeps its promises: the same strings each time, and everything in them that breaks tokenizers."""

import unicodedata

from toolkit.text.tokenizer.certificate import script_of
from toolkit.text.tokenizer.strings import ADVERSARIAL, SCRIPTS, generated_string

STRINGS = [generated_string(0, number, ["▁the", "ha", ".."]) for number in range(4000)]


def test_a_string_follows_from_seed_and_number() -> None:
    assert generated_string(0, 17, ["▁the", "ha", ".."]) == STRINGS[17]
    assert generated_string(1, 17, ["▁the", "ha", ".."]) != STRINGS[17]
    assert len(set(STRINGS)) > 3900


def test_every_script_is_there() -> None:
    seen = {script_of(text) for text in STRINGS}
    wanted = {"cjk" if name == "han" else name for name in SCRIPTS}
    assert len(SCRIPTS) > 20 and not wanted - seen


def test_what_breaks_tokenizers_is_there() -> None:
    joined = "".join(STRINGS)
    for rare in ("\x00", "\x1f", "\u200b", "\u200d", "\u2581", "\U0001f1e6", "<mask>", "<0x41>", "........"):
        assert rare in joined
    assert any(unicodedata.combining(text[0]) for text in STRINGS if text)  # a lone combining mark
    not_ascii = [text for text in STRINGS if not text.isascii()]
    for form in ("NFC", "NFD"):
        assert 0.2 < sum(unicodedata.is_normalized(form, text) for text in not_ascii) / len(not_ascii) < 0.95
    assert len(ADVERSARIAL) == len(set(ADVERSARIAL))
