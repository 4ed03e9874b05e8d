"""Characters that tell of a damaged text, or that are not what they look like."""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from ftfy.badness import is_bad


class Finding(NamedTuple):
    """What may be found in a text.

    Attributes:
        is_in: Whether it is in a text.
        meaning: What it is, and what to do about it.
    """

    is_in: Callable[[str], bool]
    meaning: str


def _search(pattern: str) -> Callable[[str], bool]:
    search = re.compile(pattern).search
    return lambda text: search(text) is not None


FINDINGS = {
    "NUL": Finding(_search("\0"), "a character 0; the tokenizer reads it as a space. Many of them: a file in UTF-16"),
    "control": Finding(
        _search("[\x01-\x08\x0e-\x1b\x7f]"), "control characters, which nobody sees; take them out with `replace`"
    ),
    "cp1252": Finding(
        _search("[\x80-\x84\x86-\x9f]"),
        "characters of another alphabet of control: the file was read as latin-1 and is likely `encoding: cp1252`",
    ),
    "zero-width": Finding(
        _search("[\u00ad\u180e\u200b\u2060\ufeff]"),
        "zero-width space, soft hyphen or byte order mark inside a text; joiners, which scripts need, do not count",
    ),
    "direction": Finding(
        _search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]"), "marks of writing direction; they may hide what is read"
    ),
    "replacement": Finding(
        _search("\ufffd"), "U+FFFD: characters were lost before; get the original, or decode it with its own encoding"
    ),
    "mojibake": Finding(
        lambda text: not text.isascii() and is_bad(text),
        "text decoded with a wrong encoding (Ã¼ for ü); decode the original with its own, or mend it with ftfy",
    ),
    "decomposed": Finding(
        lambda text: not unicodedata.is_normalized("NFC", text),
        "letters and their marks as separate characters (NFD); the tokenizer joins them, other programs may not",
    ),
}
"""By name; the names are those of the audit's tables."""

_PLAIN = re.compile(r"[ -~]*").fullmatch


def find_characters(text: str) -> list[str]:
    """Names of what `FINDINGS` finds in `text`."""
    if _PLAIN(text):  # the printable part of ASCII holds none of them
        return []
    return [name for name, finding in FINDINGS.items() if finding.is_in(text)]
