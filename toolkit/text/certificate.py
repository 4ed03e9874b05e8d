"""Proof, kept beside a tokenizer, that its fast form and SentencePiece agree, and that decoding loses
nothing."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece
import tokenizers
import transformers

from toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from toolkit.text.tokenizer import TextTokenizer

CERTIFICATE = "tokenizer_certificate.json"
CERTIFIED_FILES = ("tokenizer.json", "sentencepiece.model")
BATCH = 2000

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
)
"""Strings that break tokenizers: blanks, markup, repeats, scripts, combining marks, rare planes."""


def certify(tokenizer: "TextTokenizer", texts: Sequence[str]) -> dict[str, Any]:
    """Compares both sides on every text and on the adversarial strings.

    Args:
        tokenizer: What to certify.
        texts: The whole corpus.

    Returns:
        Numbers of texts compared, of texts whose ids differ and of strings that decoding does not give back,
        where the first three are (never the texts, which may be private), and versions.
    """
    differing: list[str] = []
    lossy: list[str] = []
    compared = 0
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        differing += [f"row {start + row} ({_script(batch[row])})" for row in _differing(tokenizer, batch)]
        compared += len(batch)
    differing += [f"adversarial string {row}" for row in _differing(tokenizer, ADVERSARIAL)]
    for row, text in enumerate(ADVERSARIAL):
        ids = tokenizer.fast(text)["input_ids"]
        if tokenizer.fast.decode(ids[1:-1]) != tokenizer.normalize(text):
            lossy.append(f"adversarial string {row}")
    return {
        "texts": compared,
        "adversarial": len(ADVERSARIAL),
        "differing": len(differing),
        "lossy": len(lossy),
        "examples": (differing + lossy)[:3],
        "vocabulary": len(tokenizer),
        "versions": {
            "sentencepiece": sentencepiece.__version__,
            "tokenizers": tokenizers.__version__,
            "transformers": transformers.__version__,
        },
    }


def write_certificate(folder: Path, certificate: dict[str, Any]) -> None:
    """Writes the certificate, bound to the files it is about by their digests."""
    bound = certificate | {"sha256": {name: _sha256(folder / name) for name in CERTIFIED_FILES}}
    (folder / CERTIFICATE).write_text(json.dumps(bound, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_certificate(folder: Path) -> dict[str, Any]:
    """The certificate of `folder`.

    Raises:
        CheckpointError: It failed, is broken, or is about other files.
    """
    path = folder / CERTIFICATE
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
        failed, digests = certificate["differing"] + certificate["lossy"], certificate["sha256"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise CheckpointError(f"{path}: is not a certificate; train the tokenizer again") from None
    if failed:
        raise CheckpointError(
            f"{path}: the fast tokenizer differs from SentencePiece on {failed} of "
            f"{certificate['texts']} texts, such as {certificate['examples'][0]}; "
            "train on a corpus without it, and report which characters it has"
        )
    for name, digest in digests.items():
        if _sha256(folder / name) != digest:
            raise CheckpointError(f"{folder / name}: was changed after it was certified; train the tokenizer again")
    return certificate


def _differing(tokenizer: "TextTokenizer", texts: Sequence[str]) -> list[int]:
    expected = tokenizer.encode(texts)
    ours = tokenizer.fast(list(texts), add_special_tokens=False)["input_ids"]
    return [row for row, (one, other) in enumerate(zip(expected, ours, strict=True)) if one != other]


def _script(text: str) -> str:
    """The script of the first letter, as Unicode names it: `cyrillic`."""
    letter = next((character for character in text if character.isalpha()), "")
    return unicodedata.name(letter, "unknown").partition(" ")[0].lower() if letter else "no letter"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
