"""Python's way round the tokenizer's normaliser gives the same text, for every character and in any company."""

import numpy as np
import pytest

from toolkit.text.tokenizer.normalizing import Normalizer, build_normalizer, uncertain
from toolkit.text.tokenizer.strings import ADVERSARIAL, generated_string

ALL = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
both = pytest.mark.parametrize("lowercase", [False, True])


def test_normalising_keeps_what_is_visible() -> None:
    plain, folded = Normalizer(build_normalizer(lowercase=False)), Normalizer(build_normalizer(lowercase=True))
    assert plain(" Ａ\u3000b\u200bc\x00▁d\n") == "A b c d"
    assert plain("Vie\u0323\u0302t") == "Việt"
    assert folded("Čaša") == "čaša"


@both
def test_every_character_comes_out_as_the_tokenizer_has_it(lowercase: bool) -> None:
    """Alone it would be stripped if it is a blank; in company it may compose."""
    exact = build_normalizer(lowercase)
    quick = Normalizer(exact)
    looked_at = [character for character in ALL if not uncertain().match(character)]
    assert 50_000 < len(looked_at) < 65_000  # the others go to the tokenizer anyway
    for start in range(0, len(looked_at), 200):
        text = "".join(f"a{character}e\u0301{character}\u0323 q" for character in looked_at[start : start + 200])
        assert quick(text) == exact.normalize_str(text), f"{ord(looked_at[start]):x} and what follows"


@both
def test_strings_come_out_as_the_tokenizer_has_them(lowercase: bool) -> None:
    exact = build_normalizer(lowercase)
    quick = Normalizer(exact)
    rng = np.random.default_rng(0)
    certain = [character for character in ALL if not uncertain().match(character)]
    marks = [character for character in certain if 0x300 <= ord(character) < 0x36F or ord(character) in (0x5B0, 0x64B)]
    mixed = []
    for row in range(2000):
        drawn_from = marks if row % 2 else certain
        mixed.append("".join(drawn_from[place] for place in rng.integers(len(drawn_from), size=8)))
    for text in [*ADVERSARIAL, *mixed, *(generated_string(1, number) for number in range(3000))]:
        assert quick(text) == exact.normalize_str(text)


def test_common_texts_take_the_quick_way() -> None:
    for text in ("Ein Text, größer.", "čšž", "日本語のテキスト", "ภาษาไทย", "हिन्दी", "العربية", "한국어", "☕"):
        assert not uncertain().search(text)
