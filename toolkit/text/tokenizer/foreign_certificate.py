"""What can be said of a tokenizer that was not trained here: what it loses, and how it treats each language."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from toolkit.text.tokenizer.audit import audit_tokenizer
from toolkit.text.tokenizer.certificate import FAST, FOREIGN, script_of, versions
from toolkit.text.tokenizer.foreign import ForeignTokenizer
from toolkit.text.tokenizer.strings import ADVERSARIAL, generated_string


def certify_foreign(
    tokenizer: ForeignTokenizer,
    rows: Iterable[tuple[str, ...]] = (),
    folder: Path | None = None,
    num_generated: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Looks at strings made to break tokenizers, and at texts.

    Args:
        tokenizer: As transformers opens it.
        rows: Text and language; as many as there is time for.
        folder: Where it was opened. If it has a tokenizer.json, the ids are compared with that file's own: transformers
            builds some tokenizers anew, and not always as they were.
        num_generated: Strings of the seeded generator.
        seed: Of the generator.

    Returns:
        Numbers of strings seen, of strings that decoding does not give back as the tokenizer saw them (`lossy`, by
        script and in all), of strings whose ids differ from the file's (`other_than_file`), what `audit_tokenizer`
        says of each language, and versions.
    """
    generated = [generated_string(seed, number) for number in range(num_generated)]
    strings = [*ADVERSARIAL, *generated]
    ids = tokenizer.encode_arrays(strings)
    seen = tokenizer.normalize_all(strings)
    back = tokenizer.decode_all(ids, skip_special=True)
    lossy = Counter(
        script_of(text)
        for text, normal, decoded in zip(strings, seen, back, strict=True)
        if normal.split() != decoded.split()
    )
    own = _file_ids(folder, strings)
    audit = audit_tokenizer(tokenizer, rows)
    return {
        "kind": FOREIGN,
        "adversarial": len(ADVERSARIAL),
        "generated": len(generated),
        "lossy": sum(lossy.values()),
        "lossy_scripts": dict(sorted(lossy.items())),
        "other_than_file": None if own is None else sum(a.tolist() != b for a, b in zip(ids, own, strict=True)),
        "languages": {row.pop("language"): row for row in audit.to_dict("records")},
        "vocabulary": len(tokenizer),
        "versions": versions(),
    }


def _file_ids(folder: Path | None, strings: list[str]) -> list[list[int]] | None:
    if folder is None or not (folder / FAST).is_file():
        return None
    backend = Tokenizer.from_file(str(folder / FAST))
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return [encoded.ids for encoded in backend.encode_batch(strings, add_special_tokens=False)]
