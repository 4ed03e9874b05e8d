"""What is known of a tokenizer, kept beside it and bound to its files.

Of one that was trained here: proof that its fast form and SentencePiece give the same ids, and that decoding loses
nothing; a folder without that proof is refused. Of one from elsewhere: what it loses, as far as it was seen.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import transformers

from toolkit.console import track
from toolkit.errors import CheckpointError
from toolkit.text.tokenizer.base import TextTokenizer
from toolkit.text.tokenizer.strings import ADVERSARIAL, generated_string

CERTIFICATE = "tokenizer_certificate.json"
SPIECE = "sentencepiece.model"
FAST = "tokenizer.json"
TRAINED, FOREIGN = "trained", "foreign"
BATCH = 2000


def certify(tokenizer: TextTokenizer, texts: Iterable[str], num_generated: int = 0, seed: int = 0) -> dict[str, Any]:
    """Compares SentencePiece with the fast tokenizer, and what decoding gives back with the text.

    Each text is compared as it is, and where that is another string in the forms NFC and NFD.

    Args:
        tokenizer: What to certify.
        texts: The whole corpus, or as much of it as there is time for.
        num_generated: Strings of the seeded generator, in over 20 scripts and of the tokenizer's own pieces.
        seed: Of the generator.

    Returns:
        Numbers of strings compared, of strings whose ids differ and of strings that decoding does not give back,
        by script and in all; where the first three are (never the texts, which may be private), and versions.
    """
    compared: Counter[str] = Counter()
    differing: list[str] = []
    lossy: list[str] = []
    scripts: Counter[str] = Counter()
    for batch in _batches(_named(tokenizer, texts, num_generated, seed)):
        strings = [text for _, _, text in batch]
        expected = tokenizer.encode_arrays(strings)
        ours = tokenizer.fast(strings, add_special_tokens=False)["input_ids"]
        normal = tokenizer.normalize_all(strings)
        decoded = tokenizer.decode_all(expected)
        for (kind, name, text), one, other, seen, back in zip(batch, expected, ours, normal, decoded, strict=True):
            compared[kind] += 1
            script = script_of(text)
            scripts[script] += 1
            if one.tolist() != other:
                differing.append(f"{name} ({script})")
            elif seen != back:
                lossy.append(f"{name} ({script})")
    return {
        "kind": TRAINED,
        **{kind: compared[kind] for kind in ("texts", "adversarial", "generated")},
        "scripts": dict(sorted(scripts.items())),
        "differing": len(differing),
        "lossy": len(lossy),
        "examples": (differing + lossy)[:3],
        "vocabulary": len(tokenizer),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that make ids."""
    return {package.__name__: package.__version__ for package in (sentencepiece, tokenizers, transformers)}


def write_certificate(folder: Path, certificate: dict[str, Any]) -> None:
    """Writes the certificate, bound to the files it is about by their digests."""
    names = [name for name in (FAST, SPIECE) if (folder / name).is_file()]
    bound = certificate | {"sha256": {name: _sha256(folder / name) for name in names}}
    (folder / CERTIFICATE).write_text(json.dumps(bound, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_certificate(folder: Path) -> dict[str, Any]:
    """The certificate of `folder`.

    Raises:
        CheckpointError: It failed, is broken, or is about other files.
    """
    path = folder / CERTIFICATE
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
        kind, digests = certificate.get("kind", TRAINED), certificate["sha256"]
        failed = certificate["differing"] + certificate["lossy"] if kind == TRAINED else 0
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: is not a certificate; train the tokenizer again") from None
    if failed:
        raise CheckpointError(
            f"{path}: the fast tokenizer differs from SentencePiece on {failed} of "
            f"{certificate['texts']} texts, such as {certificate['examples'][0]}; "
            "train on a corpus without it, and report which characters it has"
        )
    for name, digest in digests.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise CheckpointError(f"{folder / name}: was changed after it was certified; train the tokenizer again")
    return certificate


def script_of(text: str) -> str:
    """The script of the first letter, as Unicode names it: `cyrillic`."""
    letter = next((character for character in text if character.isalpha()), "")
    return unicodedata.name(letter, "unknown").partition(" ")[0].lower() if letter else "no letter"


def _named(
    tokenizer: TextTokenizer, texts: Iterable[str], num_generated: int, seed: int
) -> Iterator[tuple[str, str, str]]:
    """Kind, name without content, and text of all that is compared."""
    for row, text in enumerate(ADVERSARIAL):
        yield "adversarial", f"adversarial string {row}", text
    for row, text in enumerate(track(texts, "certifying the tokenizer")):
        for form in _forms(text):
            yield "texts", f"row {row}", form
    pieces = [tokenizer.piece(index) for index in range(len(tokenizer)) if tokenizer.maskable[index]]
    for row in track(range(num_generated), "certifying generated strings"):
        yield "generated", f"generated string {row} of seed {seed}", generated_string(seed, row, pieces)


def _forms(text: str) -> list[str]:
    if text.isascii():
        return [text]
    return list(dict.fromkeys([text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))]))


def _batches(items: Iterator[tuple[str, str, str]]) -> Iterator[list[tuple[str, str, str]]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
