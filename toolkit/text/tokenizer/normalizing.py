"""Text as a tokenizer sees it, by Python's own NFKC where that is certain to agree with the tokenizer's normaliser."""

import json
import re
import unicodedata
from functools import cache
from typing import Any

from tokenizers import Regex, normalizers

_BLANKS = r"\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u2581\x00"
_BLANK_RUN = re.compile(f"[{_BLANKS}]+")
_ODD_BLANK = re.compile(f"(?! )[{_BLANKS}]|  ")  # a blank that is not a single space
_CORRECTED = "\uf951"
"""Its normal form was corrected after Unicode 3.2, as those of a few beyond U+FFFF were."""
_COMMON = {character: unicodedata.normalize("NFKC", character) for character in "，！？：；（）～…\u3000\xa0"}
"""Replaced beforehand, which changes no normal form: one of them in a text sends all of it through the slow NFKC."""
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
"""Emoji, rare ideographs, tags: not looked at. `re` is fast where no character of a class lies beyond U+FFFF."""


def build_normalizer(lowercase: bool) -> normalizers.Normalizer:
    """NFKC; white space, zero-width space, U+2581 and NUL runs to one space; strip; lower case if asked
    for."""
    steps = [normalizers.NFKC(), normalizers.Lowercase()] if lowercase else [normalizers.NFKC()]
    blanks = normalizers.Replace(Regex(r"[\s\u200b\u2581\x00]+"), " ")
    return normalizers.Sequence([*steps, blanks, normalizers.Strip()])


class Normalizer:
    """The same as a normaliser that `build_normalizer` made, several times faster on most texts.

    Python and the tokenizer know different versions of Unicode. By Unicode's promise of stability they agree on what
    was assigned in version 3.2 and on whatever neither composes, decomposes nor reorders; a text with other characters
    goes to the tokenizer's own.

    Args:
        exact: The tokenizer's.
    """

    def __init__(self, exact: normalizers.Normalizer) -> None:
        self.exact = exact
        self.lowercase = "Lowercase" in _steps(exact)

    def __call__(self, text: str) -> str:
        """The text, normalised."""
        if not text.isascii():
            # Python looks at a final sigma's neighbours, the tokenizer does not.
            if uncertain().search(text) or _BEYOND.search(text) or (self.lowercase and "Σ" in text):
                return self.exact.normalize_str(text)
            for character, plain in _COMMON.items():
                text = text.replace(character, plain)
            text = unicodedata.normalize("NFKC", text)
        if self.lowercase:
            text = text.lower()
        if _ODD_BLANK.search(text):
            text = _BLANK_RUN.sub(" ", text)
        return text.strip(" ")


@cache
def uncertain() -> re.Pattern[str]:
    """Matches characters up to U+FFFF on whose normal form two versions of Unicode might disagree."""
    composed = {
        parts[1]
        for code in range(0x10000)
        if len(parts := unicodedata.decomposition(chr(code)).split()) == 2 and not parts[0].startswith("<")
    }
    composed_with = {chr(int(part, 16)) for part in composed}
    ranges: list[list[int]] = []
    for code in range(0x10000):
        character = chr(code)
        if not _certain(character, composed_with):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return re.compile("[" + "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges) + "]")


def _certain(character: str, composed_with: set[str]) -> bool:
    if character == _CORRECTED:
        return False
    if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs"):
        return True
    inert = not unicodedata.combining(character) and not unicodedata.decomposition(character)
    known = unicodedata.category(character) not in ("Cn", "Cs")
    return known and inert and character not in composed_with and character.lower() == character == character.upper()


def _steps(normalizer: normalizers.Normalizer) -> list[str]:
    state: dict[str, Any] = json.loads(normalizer.__getstate__())
    return [step["type"] for step in state["normalizers"]]
