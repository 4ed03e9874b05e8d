"""From a folder of whatever a hospital exported to a manifest, with everything that was refused and why."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.cards.pseudonyms import pseudonym_key
from toolkit.console import track
from toolkit.errors import DataError
from toolkit.scans.audit.candidates import (
    Candidate,
    choose,
    deciding_rule,
    series_candidates,
    strangers,
    volume_candidates,
)
from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.link import Labels
from toolkit.scans.audit.look import NOT_IN_MR, look, read_headers
from toolkit.scans.audit.memory import Memory, question
from toolkit.scans.audit.page import write_page
from toolkit.scans.audit.people import People, scanner_name
from toolkit.scans.audit.private import private_folder, write_private
from toolkit.scans.audit.walk import walk
from toolkit.scans.dicom import DicomHeader
from toolkit.scans.isolated import Lost, isolated, num_cores
from toolkit.scans.manifest import COLUMNS
from toolkit.scans.reasons import Reason, ScanError

HEADERS_AT_ONCE = 64
_DOING = {"read_headers": "Reading headers", "look": "Reading scans"}
BURNED_IN = "burned-in annotation: pixels may show a name"
FACE = "face: a head whose face was not removed"
UNPLACED = "no orientation in the header: which side is left is a guess"
_HEAD = re.compile(r"head|brain|skull|face|cranium|neuro", re.IGNORECASE)
_HEAD_MM = (100.0, 320.0)  # field of view of a head scan, each axis


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        manifest: One row a scan, columns `COLUMNS`.
        refused: `path`, `reason` (as `refused.csv`) and `kind`, the reason's first words.
        warnings: `path` and `warning`, of scans that were kept.
        unmatched: `where` and `name`: rows of the label table without a scan, scans without a label.
    """

    manifest: pd.DataFrame
    refused: pd.DataFrame
    warnings: pd.DataFrame
    unmatched: pd.DataFrame


def audit_folder(folder: str | Path, out_dir: str | Path, config: AuditConfig | None = None) -> Audit:
    """Finds and reads every scan below `folder` once, and lists them under pseudonyms.

    Writes into `out_dir`, which only its owner can read (0700): `manifest.csv`; `refused.csv`, each file or series
    that is not in the manifest and why; `warnings.csv`; `crosswalk.csv`, who is who; `unmatched.csv`, what `link`
    left over; and `audit.html`, the only one to be shown around. A `.gitignore` keeps all of it out of commits.
    What was read is remembered there: a second audit reads only what is new or changed.

    Pseudonyms are made with the key of the data root, as those of texts are: the same person has the same one in
    every audit there.

    Args:
        folder: Looked into at any depth. Links that lead out of it are not followed.
        out_dir: Made if missing; in no run's folder.
        config: What is accepted and preferred.

    Raises:
        DataError: `folder` is missing or holds no usable scan (what was refused is listed all the same), the table of
            labels cannot be used, or `out_dir` lies in a run's folder.
        DiskError: The key cannot be written.
    """
    config = config or AuditConfig()
    root = Path(folder).resolve()
    out = private_folder(Path(out_dir))
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds the scans")
    labels = Labels(config, root)
    memory = Memory(out / "memory.sqlite")
    try:
        found = walk(root, out)
        refused = list(found.refused)
        headers, damaged, others = _headers(found.others, memory, config, refused)
        odd = strangers(others, {os.path.dirname(header.file) for header in headers})
        series, unfit = series_candidates(headers, damaged, root, config)
        refused += unfit + odd
        candidates = volume_candidates(found.volumes, root, config) + series
        seen = _look_at_the_best(candidates, memory, config, refused)
    finally:
        memory.close()
    result = _listed(seen, labels, refused, config, out)
    if result.manifest.empty:
        raise DataError(f"{folder}: no usable scan (NIfTI, NRRD, MetaImage or DICOM); {out / 'refused.csv'} says why")
    return result


def build_manifest(folder: str | Path, out_dir: str | Path) -> pd.DataFrame:
    """`audit_folder`'s manifest."""
    return audit_folder(folder, out_dir).manifest


def _headers(
    paths: list[Path], memory: Memory, config: AuditConfig, refused: list[ScanError]
) -> tuple[list[DicomHeader], list[Path], list[Path]]:
    """DICOM headers, damaged DICOM files, and files of other kinds, each sorted by path."""
    items = [((str(path),), str(path)) for path in paths]
    headers, damaged, others = [], [], []
    for path, answer in zip(paths, _answers(read_headers, items, HEADERS_AT_ONCE, memory, config), strict=True):
        if "header" in answer:
            headers.append(DicomHeader(**answer["header"]))
        elif "refused" in answer:
            error = _refusal(answer, path)
            refused.append(error)
            if error.reason != Reason.NOT_A_VOLUME:
                damaged.append(path)
        else:
            others.append(path)
    return headers, damaged, others


def _look_at_the_best(
    candidates: list[Candidate], memory: Memory, config: AuditConfig, refused: list[ScanError]
) -> list[tuple[Candidate, dict[str, Any]]]:
    """Reads what is chosen; where that cannot be read, the next best of its kind."""
    candidates, answers = list(candidates), {}
    while True:
        chosen, groups = choose(candidates, config)
        new = [candidate for candidate in chosen if candidate.path not in answers]
        if not new:
            break
        items = [(candidate.files, candidate.path) for candidate in new]
        for candidate, answer in zip(new, _answers(look, items, 1, memory, config), strict=True):
            if "refused" in answer:
                refused.append(_refusal(answer, candidate.path))
                candidates.remove(candidate)
            else:
                answers[candidate.path] = answer
    for best, *others in groups:
        for other in others:
            rule = deciding_rule(best, other, config)
            refused.append(ScanError(Reason.NOT_CHOSEN, other.path, f"by the rule {rule!r}, for {best.path}"))
    seen, first = [], {}
    for candidate in sorted(chosen, key=lambda candidate: candidate.path):
        answer = answers[candidate.path]
        other = first.setdefault(answer["content_hash"], candidate)
        if other is candidate:
            seen.append((candidate, answer))
        else:
            whose = "" if other.person == candidate.person else ", and of another subject"
            refused.append(ScanError(Reason.DUPLICATE, candidate.path, f"the same bytes as {other.path}{whose}"))
    return seen


def _answers(
    function: Callable[[list[Any]], list[dict[str, Any]]],
    items: list[tuple[tuple[str, ...], str]],
    at_once: int,
    memory: Memory,
    config: AuditConfig,
) -> list[dict[str, Any]]:
    """What `function` says of each item (files, path), from memory or out of a process of its own."""
    questions = [question(function.__name__, files) for files, _ in items]
    answers = [memory.get(asked) for asked in questions]
    todo = [number for number, answer in enumerate(answers) if answer is None]
    batches = [todo[start : start + at_once] for start in range(0, len(todo), at_once)]
    num_workers = min(config.num_workers or num_cores(), max(len(batches), 1))
    while batches:
        lost = []
        tasks = [([items[number] for number in batch],) for batch in batches]
        results = isolated(function, tasks, num_workers=num_workers, timeout_s=config.timeout_s)
        for place, result in track(results, _DOING[function.__name__], total=len(tasks)):
            batch = batches[place]
            if not isinstance(result, Lost):
                for number, answer in zip(batch, result, strict=True):
                    answers[number] = answer
                    memory.put(questions[number], answer)
            elif len(batch) > 1:
                lost += [[number] for number in batch]  # one of them did it: each by itself
            else:  # not remembered: with more time or memory it may be read
                answers[batch[0]] = {"refused": [result.reason, result.detail]}
        batches = lost
    return answers


def _refusal(answer: dict[str, Any], path: str | Path) -> ScanError:
    reason, detail = answer["refused"]
    return ScanError(Reason(reason), path, detail)


def _listed(
    seen: list[tuple[Candidate, dict[str, Any]]],
    labels: Labels,
    refused: list[ScanError],
    config: AuditConfig,
    out: Path,
) -> Audit:
    """Writes the tables and the page."""
    people = People(pseudonym_key())
    sessions = _sessions([candidate for candidate, _ in seen])
    rows, warnings, thumbnails = [], [], []
    for candidate, answer in seen:
        header = candidate.header
        rows.append(
            {
                "path": candidate.path,
                "subject": people.subject(candidate.person),
                "study": people.study(candidate.study, candidate.person, header),
                "session": sessions.get((candidate.person, candidate.session, candidate.study), ""),
                "sequence": candidate.sequence,
                "site": people.site(header.institution if header else ""),
                "scanner": scanner_name(header),
                "modality": header.modality if header else "CT?" * (answer["lowest"] < NOT_IN_MR),
                "spacing_mm": "x".join(f"{value:.4g}" for value in answer["spacing_mm"]),
                "shape": "x".join(map(str, answer["shape"])),
                "label": labels.of(candidate),
                "content_hash": answer["content_hash"],
                "fingerprint": answer["fingerprint"],
            }
        )
        found = _warnings(header, answer)
        warnings += [{"path": candidate.path, "warning": warning} for warning in found]
        thumbnails.append(None if BURNED_IN in found else answer["thumbnail"])
    refusals = [
        {"path": _printable(error.path), "reason": f"{error.reason}: {error.detail}", "kind": str(error.reason)}
        for error in refused
    ]
    refusals.sort(key=lambda row: (row["path"], row["reason"]))
    result = Audit(
        pd.DataFrame(rows, columns=COLUMNS),
        pd.DataFrame(refusals, columns=["path", "reason", "kind"]),
        pd.DataFrame(warnings, columns=["path", "warning"]),
        labels.unmatched(),
    )
    _write(out / "manifest.csv", result.manifest)
    _write(out / "refused.csv", result.refused[["path", "reason"]])
    _write(out / "warnings.csv", result.warnings)
    _write(out / "crosswalk.csv", people.crosswalk())
    if config.link is not None:
        _write(out / "unmatched.csv", result.unmatched)
    write_page(out / "audit.html", result.manifest, result.refused, result.warnings, thumbnails)
    return result


def _sessions(candidates: list[Candidate]) -> dict[tuple[str, str, str], str]:
    """The order of each person's studies, from 1: dates do not leave, and neither do names of sessions."""
    studies: dict[str, set[tuple[str, str]]] = {}
    for candidate in candidates:
        if candidate.session:
            studies.setdefault(candidate.person, set()).add((candidate.session, candidate.study))
    return {
        (person, *study): str(number)
        for person, dated in studies.items()
        for number, study in enumerate(sorted(dated, key=lambda study: (_natural(study[0]), study[1])), start=1)
    }


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts ses-2 before ses-10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _warnings(header: DicomHeader | None, answer: dict[str, Any]) -> list[str]:
    found = []
    if header is not None and header.burned_in.upper() == "YES":
        found.append(BURNED_IN)
    said = f"{header.body_part} {header.description}" if header else ""
    is_head = bool(_HEAD.search(said)) or (
        not (header and header.body_part) and all(_HEAD_MM[0] < extent < _HEAD_MM[1] for extent in answer["extent_mm"])
    )
    if is_head and answer["has_face"] and (header is None or header.recognisable.upper() != "NO"):
        found.append(FACE)
    if answer["unplaced"]:
        found.append(UNPLACED)
    return found


def _printable(path: str | Path) -> str:
    """A path that any program can read; bytes that are not UTF-8 become `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write(path: Path, table: pd.DataFrame) -> None:
    write_private(path, table.to_csv(index=False).encode("utf-8"))
