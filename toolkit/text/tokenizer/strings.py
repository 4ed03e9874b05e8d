"""Strings that break tokenizers: a list made by hand, and as many more as wanted from a seeded generator."""

import unicodedata
from collections.abc import Sequence

import numpy as np

ADVERSARIAL = (
    "",
    " ",
    "\t\n\r\u3000",
    "a",
    "  leading and trailing  ",
    "many     inner      spaces",
    "zero\u200bwidth",
    "soft\u00adhyphen",
    "no\u00a0break\u202fspaces",
    "▁meta▁space▁",
    "nul\x00inside",
    "control \x01\x1f\x7f\x85 characters",
    "<s> </s> <pad> <unk> <mask>",
    "<s><s></s>text<mask>text",
    "<0x41><0xFF>",
    "hahahahahahaha ........ ------ !!!!!!!! ?!?!?!",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Tiếng Việt có dấu",
    "Tie\u0302\u0301ng Vie\u0323\u0302t co\u0301 da\u0302\u0301u",
    "ﬁ ﬂ ½ ² ㎏ Ⅻ ＡＢＣ １２３",
    "čšž ČŠŽ c\u030c s\u030c z\u030c",
    "İstanbul ISPARTA ıi ß ẞ",
    "这是一个测试，没有空格。",
    "日本語のテキスト、カタカナ　ひらがな ｶﾀｶﾅ",
    "ภาษาไทยไม่มีช่องว่าง",
    "العربية مع تشكيلٌ ـــ",
    "עברית עם נִקּוּד",
    "हिन्दी में संयुक्ताक्षर क्ष",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☕️ 🇸🇮",
    "\U0001f9ff\U00020000\U000e0041 rare planes",
    "\ufeffbyte order mark \ufffd",
    "mixed العربية and 中文 and Кириллица",
    "http://example.org/?q=a%20b&c=<d>#e",
    "tab\tand\nnew line\r\nend",
    "e\u0301\u0301\u0301 stacked accents Z\u0351\u036b\u0343",
    "123456789012345678901234567890",
    "ΟΔΥΣΣΕΥΣ Σ ΑΣ. ς",
    "what SentencePiece keeps for itself: ▅ ⁇",
    "\U00011935\U00011930 \U000107a5 \U0001e4ee younger than many a Unicode",
)
"""Blanks, markup, repeats, scripts, combining marks, rare planes."""

SCRIPTS = {
    "latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "greek": ((0x386, 0x3CE), (0x1F00, 0x1F4D)),
    "cyrillic": ((0x400, 0x52F),),
    "armenian": ((0x531, 0x556), (0x561, 0x587)),
    "hebrew": ((0x5D0, 0x5EA), (0x5B0, 0x5BC)),
    "arabic": ((0x620, 0x64A), (0x64B, 0x652), (0x671, 0x6D3)),
    "devanagari": ((0x900, 0x963),),
    "bengali": ((0x985, 0x9B9), (0x9BC, 0x9CC)),
    "gurmukhi": ((0xA05, 0xA39), (0xA3E, 0xA4D)),
    "gujarati": ((0xA85, 0xAB9), (0xABE, 0xACD)),
    "tamil": ((0xB85, 0xBB9), (0xBBE, 0xBCD)),
    "telugu": ((0xC05, 0xC39), (0xC3E, 0xC4D)),
    "kannada": ((0xC85, 0xCB9), (0xCBE, 0xCCD)),
    "malayalam": ((0xD05, 0xD39), (0xD3E, 0xD4D)),
    "sinhala": ((0xD85, 0xDC6), (0xDCF, 0xDDF)),
    "thai": ((0xE01, 0xE3A), (0xE40, 0xE4E)),
    "lao": ((0xE81, 0xEC4),),
    "tibetan": ((0xF40, 0xF6C), (0xF71, 0xF84)),
    "myanmar": ((0x1000, 0x103F),),
    "georgian": ((0x10D0, 0x10FA),),
    "hangul": ((0xAC00, 0xD7A3), (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2)),
    "ethiopic": ((0x1200, 0x135A),),
    "cherokee": ((0x13A0, 0x13F4),),
    "khmer": ((0x1780, 0x17D3),),
    "mongolian": ((0x1820, 0x1877),),
    "hiragana": ((0x3041, 0x3096),),
    "katakana": ((0x30A1, 0x30FA), (0xFF66, 0xFF9D)),
    "han": ((0x4E00, 0x9FA5), (0x3400, 0x4DB5), (0xF900, 0xFA2D), (0x20000, 0x2A6D6)),
    "gothic": ((0x10330, 0x1034A),),
}
"""Ranges of their letters and vowel signs."""
_COMBINING = ((0x300, 0x36F), (0x483, 0x487), (0x591, 0x5BD), (0x64B, 0x65F), (0x93C, 0x94D), (0x20D0, 0x20F0))
_EMOJI = ((0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF))
_JOINERS = ("\u200d", "\ufe0f", "\U0001f3fd", "", "")
_BLANKS = (" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u200b", "\u2581", "\x00", "\u2028", "\x1c", "\x85")
_CONTROLS = (*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u200e", "\u202b", "\u2066", "\ufeff", "\u00ad")
_MARKUP = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<0x41>", "<0x", "▁", "[MASK]", "##", "Ġ", "&amp;", "</")
_MARKS = ".,;:!?…-–—_=+*/\\|~'\"`´()[]{}<>@#$%^&«»„“。、！？।؟ー々"
_WHOLE_UNICODE = ((0x20, 0xD7FF), (0xE000, 0x2FFFF))


def generated_string(seed: int, number: int, pieces: Sequence[str] = ()) -> str:
    """String `number` of a seed's sequence, the same however many are asked for.

    A few runs, each a word of one of the scripts, a repeat of a short unit, emoji, marks, digits, controls, lone
    combining marks, markup, any characters at all, or a row of the tokenizer's own pieces; mostly with blanks
    between, and of each four strings one in NFC and one in NFD.

    Args:
        seed: Of the sequence.
        number: Which string.
        pieces: Of the vocabulary. Their rows and repeats are where segmentations tie.
    """
    rng = np.random.default_rng([seed, number])
    script = list(SCRIPTS)[number % len(SCRIPTS)]
    runs = []
    for _ in range(rng.integers(1, 9)):
        runs.append(_run(rng, script, pieces))
        runs.append(_pick(rng, _BLANKS) if rng.random() < 0.3 else _pick(rng, (" ", " ", "")))
    text = "".join(runs)
    form = ("NFC", "NFD", "", "")[rng.integers(4)]
    return unicodedata.normalize(form, text) if form else text  # type: ignore[arg-type]


def _run(rng: np.random.Generator, script: str, pieces: Sequence[str]) -> str:
    kind, length = rng.random(), int(rng.integers(1, 12))
    if kind < 0.4:
        return _letters(rng, SCRIPTS[script], length)
    if kind < 0.6 and pieces:
        drawn = [pieces[index] for index in rng.integers(len(pieces), size=length)]
        if rng.random() < 0.3:
            drawn = drawn[:2] * length
        return "".join(drawn).replace("▁", " " if rng.random() < 0.5 else "")
    if kind < 0.68:
        unit = _pick(rng, _MARKS) if rng.random() < 0.5 else _letters(rng, SCRIPTS[script], int(rng.integers(1, 4)))
        return unit * int(rng.integers(2, 20))
    if kind < 0.76:
        return "".join(_letters(rng, _EMOJI, 1) + _pick(rng, _JOINERS) for _ in range(length))
    if kind < 0.82:
        return _letters(rng, _COMBINING, int(rng.integers(1, 5)))  # lone, or on whatever stands before
    if kind < 0.88:
        return "".join(_pick(rng, _MARKS) for _ in range(length))
    if kind < 0.92:
        return "".join(_pick(rng, _CONTROLS) for _ in range(length))
    if kind < 0.95:
        return str(rng.integers(10**length))
    return _pick(rng, _MARKUP) if kind < 0.98 else _letters(rng, _WHOLE_UNICODE, length)


def _letters(rng: np.random.Generator, ranges: Sequence[tuple[int, int]], count: int) -> str:
    """Characters of the ranges, half of the time of a narrow part of one, as words are."""
    low, high = ranges[rng.integers(len(ranges))]
    if rng.random() < 0.5:
        low += int(rng.integers(high - low + 1))
        high = min(high, low + 3)
    return "".join(chr(code) for code in rng.integers(low, high + 1, size=count))


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]
