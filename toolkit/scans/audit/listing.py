"""What an audit writes: the tables, under pseudonyms where they are shown, and the page."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.private import write_private
from toolkit.scans.audit.candidates import Candidate
from toolkit.scans.audit.crosswalk import with_earlier
from toolkit.scans.audit.link import Labels
from toolkit.scans.audit.page import write_page
from toolkit.scans.audit.people import People, scanner_name
from toolkit.scans.manifest import COLUMNS
from toolkit.scans.preprocessing import BELOW_IS_HU
from toolkit.scans.reasons import ScanError

BURNED_IN = "burned-in annotation: pixels may show a name; black it out, or keep the scan on site"
FACE = "face: a head whose face was not removed; remove it (pydeface, mri_deface), or keep the scan on site"
GUESSED = "subject guessed from the {}: say who is who with --subject REGEX"
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


def write_listing(
    seen: list[tuple[Candidate, dict[str, Any]]],
    labels: Labels,
    refused: list[ScanError],
    out: Path,
    key: bytes,
    *,
    has_labels: bool,
) -> Audit:
    """Writes the tables and the page.

    Args:
        seen: The scans that are kept, sorted, and what `look` says of each.
        labels: Of the table to be joined, if any.
        refused: The rest.
        out: A private folder.
        key: From `pseudonym_key`.
        has_labels: Whether a table was to be joined.
    """
    people = People(key)
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
                "modality": header.modality if header else "CT?" * (answer["lowest"] < BELOW_IS_HU),
                "spacing_mm": "x".join(f"{value:.4g}" for value in answer["spacing_mm"]),
                "shape": "x".join(map(str, answer["shape"])),
                "label": labels.of(candidate),
                "content_hash": answer["content_hash"],
                "fingerprint": answer["fingerprint"],
            }
        )
        found = _warnings(candidate, answer)
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
    # First: no pseudonym without its way back, and never fewer of them than before.
    _write(out / "crosswalk.csv", with_earlier(out / "crosswalk.csv", people.crosswalk()))
    _write(out / "manifest.csv", result.manifest)
    _write(out / "refused.csv", result.refused[["path", "reason"]])
    _write(out / "warnings.csv", result.warnings)
    if has_labels:
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


def _warnings(candidate: Candidate, answer: dict[str, Any]) -> list[str]:
    header, found = candidate.header, []
    if candidate.guessed_from:
        found.append(GUESSED.format(candidate.guessed_from))
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
    if answer["not_finite"]:
        found.append(f"values that are not finite: {100 * answer['not_finite']:.2g} %, filled with the smallest one")
    return found


def _printable(path: str | Path) -> str:
    """A path that any program can read; bytes that are not UTF-8 become `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write(path: Path, table: pd.DataFrame) -> None:
    write_private(path, table.to_csv(index=False).encode("utf-8"))
