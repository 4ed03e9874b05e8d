"""The guard against leakage: no test subject, test file or near-duplicate of a test scan in the pretraining data."""

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.console import log
from toolkit.errors import DataError

SEEN_FILE = "pretrained_on.json"
FORMAT = 2
"""Of `SEEN_FILE`. The first had subjects alone, and no number."""
UNRECORDED = "an encoder without a record"
MAX_LISTED = 20
_PSEUDONYM = re.compile(r"([0-9a-f]{8})\.[0-9a-f]{16}")  # the mark of its key, then the digest

NO_KEY, PUBLIC = "", "public"
"""Stand among the marks of keys for names that are no pseudonyms, and for those of public data, such as colin27."""

Near = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Which of the first fingerprints are near any of the second, such as `toolkit.scans.fingerprints.near_any`."""


@dataclass(frozen=True)
class Seen:
    """What a set of data shows, in names that name nobody: row by row, or without order where subjects are all.

    Attributes:
        subjects: Subjects or groups of each row. Pseudonyms: they may appear in messages.
        content_hashes: Of each row's files, "" where unknown; empty for data without files of their own.
        fingerprints: Of each row's scan, "" where unknown; empty for data without scans.
        public: Whether the subjects are names of public scans. These and pseudonyms have nothing in common, so that
            files and fingerprints alone are compared.
    """

    subjects: Sequence[Hashable]
    content_hashes: Sequence[str] = ()
    fingerprints: Sequence[str] = ()
    public: bool = False


def refuse_leakage(
    pretraining_subjects: Iterable[Hashable], test_subjects: Iterable[Hashable], *, allow: bool = False
) -> None:
    """Stops when a test subject was also pretrained on: the score would not be one of unseen subjects.

    Args:
        pretraining_subjects: Subjects or groups that pretraining saw. Pseudonyms: they may appear in the
            message.
        test_subjects: Subjects or groups that will be tested on.
        allow: Only warn, for studies of the leak itself.

    Raises:
        DataError: The two share a subject and `allow` is false.
    """
    refuse_overlap(Seen(list(pretraining_subjects)), Seen(list(test_subjects)), allow=allow)


def refuse_overlap(pretraining: Seen, test: Seen, *, near: Near | None = None, allow: bool = False) -> None:
    """`refuse_leakage` of scans: subjects, files, and scans that show the same under another name.

    Args:
        pretraining: What pretraining sees.
        test: What will be tested on; its rows are named by subject or number, counted from 1.
        near: Compares fingerprints; needed where there are any.
        allow: Only warn.

    Raises:
        DataError: Pretraining sees something of the test, with the list; or not all subjects of both are pseudonyms of
            one key, or all of them none, so that nobody can tell; and `allow` is false.
    """
    _refuse(_record(pretraining), test, near, allow)


def record_seen(
    folder: Path, seen: Seen | Iterable[Hashable], *, before: Path | None = None, unknown: str = ""
) -> None:
    """Writes beside a saved encoder what its pretraining saw, as digests and fingerprints that name nobody.

    Args:
        folder: The encoder's folder.
        seen: The pretraining data; subjects or groups suffice where there are no scans.
        before: Folder of a saved encoder that pretraining started from: what that one saw, this one saw too.
        unknown: Other people's weights that pretraining started from, in words; `refuse_seen` warns of them.
    """
    record = _record(seen if isinstance(seen, Seen) else Seen(list(seen)))
    if before is not None and (before / SEEN_FILE).is_file():
        earlier = _read_record(before / SEEN_FILE)
        lists = [key for key, value in record.items() if isinstance(value, list)]
        record |= {key: sorted({*record[key], *earlier.get(key, ())}) for key in lists}
        record["num_without_fingerprint"] += earlier.get("num_without_fingerprint", 0)
        unknown = unknown or earlier.get("unknown", "")
    elif before is not None:
        unknown = unknown or UNRECORDED
    if unknown:
        record["unknown"] = unknown
    (folder / SEEN_FILE).write_text(json.dumps(record) + "\n", encoding="utf-8")


def refuse_seen(
    folder: Path, test: Seen | Iterable[Hashable], *, near: Near | None = None, allow: bool = False
) -> None:
    """`refuse_overlap` of a saved encoder: against what `record_seen` wrote.

    Args:
        folder: The encoder's folder.
        test: What will be tested on; subjects or groups suffice where there are no scans.
        near: Compares fingerprints; needed where there are any.
        allow: Only warn.

    Raises:
        DataError: Pretraining saw something of the test; or the encoder, or one of fewlabel's that it started from, has
            no record of what it saw; or not all subjects of both are pseudonyms of one key, or all of them none, so
            that nobody can tell; and `allow` is false.
    """
    path = folder / SEEN_FILE
    record = _read_record(path) if path.is_file() else None
    unknown = record.get("unknown", "") if record else UNRECORDED
    if unknown == UNRECORDED and not allow:
        what = f"started from {UNRECORDED}" if record else f"no {SEEN_FILE}"
        raise DataError(
            f"{folder}: {what}, so nothing says that its pretraining left the test subjects out; pretrain anew, or if "
            "you know that it did, allow_seen in a study (allow_held_out where a pretraining starts from it)"
        )
    if unknown:
        said = f"started from {unknown}" if record else f"is {unknown}"
        log.warning("%s: %s: nothing can tell whether a test subject was seen", folder, said)
    if record is None:
        return
    _refuse(record, test if isinstance(test, Seen) else Seen(list(test)), near, allow)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        newer = record.get("format", 1) > FORMAT
        assert {"subjects", "keys"} <= record.keys()
    except (OSError, ValueError, AttributeError, TypeError, AssertionError) as error:
        raise DataError(
            f"{path}: damaged ({error}), so nothing says what pretraining saw; save the encoder again"
        ) from None
    if newer:
        raise DataError(f"{path}: written by a newer fewlabel (format {record['format']}); update this one")
    return record


def _record(seen: Seen) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "subjects": sorted(set(map(_digest, seen.subjects))),
        "keys": sorted(_key_marks(seen)),
        "content_hashes": sorted({_digest(content) for content in seen.content_hashes if content}),
        "fingerprints": sorted(set(seen.fingerprints) - {""}),
        "num_without_fingerprint": _num_without(seen),
    }


def _refuse(record: dict[str, Any], test: Seen, near: Near | None, allow: bool) -> None:
    _refuse_other_keys(set(record["keys"]), test, allow)
    found = []
    known = set(record["subjects"])
    subjects = sorted({str(subject) for subject in test.subjects if _digest(subject) in known})
    if subjects:
        found.append(f"{len(subjects)} test subject(s) are also in the pretraining data ({_listed(subjects)})")
    # Whose subject is named already needs no second mention.
    rest = [row for row, subject in enumerate(test.subjects) if _digest(subject) not in known]
    for kind, rows in (("files", _same_files(record, test)), ("near-duplicates", _near(record, test, near))):
        names = [f"row {row + 1}: {test.subjects[row]}" for row in rest if row in rows]
        rest = [row for row in rest if row not in rows]
        if names:
            found.append(f"{len(names)} test scan(s) are in the pretraining data as {kind} ({_listed(names)})")
    if not found:
        return
    message = "; ".join(found)
    if not allow:
        raise DataError(f"{message}; take them out of the pretraining data, or the test measures memory")
    log.warning("%s: allowed, but scores on them are not scores on unseen subjects", message)


def _refuse_other_keys(known: set[str], test: Seen, allow: bool) -> None:
    """One person's names under two keys, or under a key and under none, have nothing in common."""
    marks = _key_marks(test)
    if test.content_hashes:
        known = known or {NO_KEY}  # of scans, in a record of before names without a key were recorded
    elif not known or not marks:  # texts that name nobody
        return
    # Of public scans files and likeness tell, also of those that an encoder saw before it saw people under a key.
    named, tested = known - {PUBLIC}, marks - {PUBLIC}
    if not (named and tested) or (named == tested and len(named) == 1):
        return
    message = (
        f"the pretraining's subjects are {_kinds(named)}, the test's {_kinds(tested)}, so nothing can tell whether it "
        "sees a test subject"
    )
    if not allow:
        raise DataError(
            f"{message}; write both manifests anew (`fewlabel data audit`) with the data root's `.key` of the "
            "pretraining, or pretrain anew; if you know that they share nobody, allow_held_out (allow_seen in a study)"
        )
    log.warning("%s: allowed", message)


def _kinds(marks: set[str]) -> str:
    keys = [f"pseudonyms of the key {mark}" for mark in sorted(marks - {NO_KEY})]
    return " and ".join(keys + ["names without a key"] * (NO_KEY in marks))


def _same_files(record: dict[str, Any], test: Seen) -> set[int]:
    known = set(record.get("content_hashes", ()))
    return {row for row, content in enumerate(test.content_hashes) if content and _digest(content) in known}


def _near(record: dict[str, Any], test: Seen, near: Near | None) -> set[int]:
    known = list(record.get("fingerprints", ()))
    rows = [row for row, fingerprint in enumerate(test.fingerprints) if fingerprint]
    if not test.content_hashes:  # no scans
        return set()
    num_unknown, num_test = record.get("num_without_fingerprint", 0), _num_without(test)
    missing = [f"{num_unknown} pretraining scans"] * bool(num_unknown) + [f"{num_test} test scans"] * bool(num_test)
    if missing or not known:
        log.warning(
            "%s without a fingerprint: near-duplicates among them are not found; `fewlabel data audit` writes them",
            " and ".join(missing) or "pretraining data",
        )
    if not known or not rows:
        return set()
    assert near is not None, "fingerprints need something that compares them"
    return {
        row for row, is_near in zip(rows, near([test.fingerprints[r] for r in rows], known), strict=True) if is_near
    }


def _listed(names: Sequence[str]) -> str:
    if len(names) > MAX_LISTED:
        log.info("in the pretraining data: %s", ", ".join(names))
        return ", ".join(names[:MAX_LISTED]) + f", and {len(names) - MAX_LISTED} more, in the log"
    return ", ".join(names)


def _digest(name: Hashable) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()[:12]


def _num_without(seen: Seen) -> int:
    """Scans whose near-duplicates nobody can find; texts are none."""
    return len(seen.subjects) - sum(map(bool, seen.fingerprints)) if seen.content_hashes else 0


def _key_marks(seen: Seen) -> set[str]:
    """The keys of the subjects' pseudonyms, NO_KEY for a scan's subject that is none, PUBLIC for public ones.

    Readers of texts make pseudonyms of all that the data name; the other groups are digests of texts, alike anywhere.
    """
    if seen.public:
        return {PUBLIC}
    matches = list(map(_PSEUDONYM.fullmatch, map(str, seen.subjects)))
    return {match[1] if match else NO_KEY for match in matches if match or seen.content_hashes}
