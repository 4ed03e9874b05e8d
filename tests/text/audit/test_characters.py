import unicodedata

import pytest

from toolkit.text.audit.characters import FINDINGS, find_characters


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("plain ASCII, and nothing else", []),
        ("čšž, Größe, 好极了, हिन्दी, Tiếng Việt, עִבְרִית, 👩‍👩‍👧", []),
        ("nul \0 inside", ["NUL"]),
        ("bell \x07", ["control"]),
        ("cp1252 read as latin-1: \x93quoted\x94", ["cp1252", "mojibake"]),
        ("zero\u200bwidth", ["zero-width"]),
        ("soft\u00adhyphen", ["zero-width"]),
        ("می\u200cخواهم", []),  # Persian needs its joiners
        ("left \u202eto right", ["direction"]),
        ("lost \ufffd", ["replacement"]),
        (unicodedata.normalize("NFD", "čista Größe"), ["decomposed"]),
        ("schÃ¶n, cÂ’est Ã©tÃ©", ["mojibake"]),
        ("ﬁ ½ ㎏ Ⅻ", []),
    ],
)
def test_what_is_odd(text: str, kinds: list[str]) -> None:
    assert find_characters(text) == kinds


def test_every_kind_says_what_it_means() -> None:
    assert all(len(finding.meaning) > 20 for finding in FINDINGS.values())
