"""From a folder of whatever a hospital exported to a manifest, with everything that was refused and why."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.cards.pseudonyms import pseudonym_key
from toolkit.console import track
from toolkit.cores import num_cores
from toolkit.errors import DataError
from toolkit.private import private_folder
from toolkit.scans.audit.candidates import Candidate, series_candidates, strangers, volume_candidates
from toolkit.scans.audit.choice import choose, deciding_rule
from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.earlier import Earlier
from toolkit.scans.audit.link import Labels
from toolkit.scans.audit.listing import Audit, write_listing
from toolkit.scans.audit.look import look, read_headers
from toolkit.scans.audit.memory import Memory, question
from toolkit.scans.audit.walk import walk
from toolkit.scans.dicom import DicomHeader
from toolkit.scans.isolated import Lost, isolated
from toolkit.scans.reasons import Reason, ScanError

HEADERS_AT_ONCE = 64
_DOING = {"read_headers": "Reading headers", "look": "Reading scans"}


def audit_folder(folder: str | Path, out_dir: str | Path, config: AuditConfig | None = None) -> Audit:
    """Finds and reads every scan below `folder` once, and lists them under pseudonyms.

    Writes into `out_dir`, which only its owner can read (0700): `manifest.csv`; `refused.csv`, each file or series
    that is not in the manifest and why; `warnings.csv`; `crosswalk.csv`, who is who; `unmatched.csv`, what `link`
    left over; and `audit.html`, the only one to be shown around. A `.gitignore` keeps all of it out of commits.
    What was read is remembered there, in `memory.sqlite`, until an audit finds it gone: a second one reads only what is
    new or changed.

    Pseudonyms are made with the key of the data root, as those of texts are: the same person has the same one in
    every audit there.

    Args:
        folder: Looked into at any depth. Links that lead out of it are not followed.
        out_dir: Made if missing; empty or of an earlier audit, and in no run's folder.
        config: What is accepted and preferred.

    Raises:
        DataError: `folder` is missing or holds no usable scan (what was refused is listed all the same), the table of
            labels cannot be used or fits no scan, or `out_dir` holds other files or lies in a run's folder.
        DiskError: The key or `out_dir` cannot be written.
    """
    config = config or AuditConfig()
    root = Path(folder).resolve()
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds the scans")
    key = pseudonym_key()
    out = private_folder(Path(out_dir))
    earlier = Earlier(out)
    labels = Labels(config, root)
    memory = Memory(out / "memory.sqlite")
    try:
        found = walk(root, out)
        refused = list(found.refused)
        series = _series(found.others, root, memory, config, refused)
        volumes, nameless = volume_candidates(found.volumes, root, config)
        refused += nameless
        seen = _look_at_the_best(volumes + series, memory, config, refused)
        if seen:  # else the disk with the scans may only be away
            memory.forget_unasked()
    finally:
        memory.close()
    result = write_listing(seen, labels, refused, out, key, has_labels=config.link is not None)
    earlier.compare(root, result.manifest)
    if result.manifest.empty and result.refused.empty:
        raise DataError(
            f"{folder}: no file that looks like a scan (NIfTI, NRRD, MetaImage or DICOM); is it the right one?"
        )
    if result.manifest.empty:
        raise DataError(f"{folder}: no usable scan (NIfTI, NRRD, MetaImage or DICOM); {out / 'refused.csv'} says why")
    if config.link is not None and not labels.any_matched:
        others = " or ".join(f"--on {name}" for name in ("accession", "subject", "path") if name != config.link_on)
        raise DataError(
            f"{config.link}: no row fits a scan by its {config.link_on}; try {others}: {out / 'unmatched.csv'} has both"
        )
    return result


def _series(
    paths: list[Path], root: Path, memory: Memory, config: AuditConfig, refused: list[ScanError]
) -> list[Candidate]:
    """The DICOM series among the files `paths`, which may be of other kinds too. Their headers end with this call."""
    items = [((str(path),), str(path)) for path in paths]
    headers, damaged, others = [], [], []
    for path, answer in zip(paths, _answers(read_headers, items, HEADERS_AT_ONCE, memory, config), strict=True):
        if "header" in answer:
            headers.append(answer["header"])
        elif "refused" in answer:
            error = _refusal(answer, path)
            refused.append(error)
            if error.reason != Reason.NOT_A_VOLUME:
                damaged.append(path)
        else:
            others.append(path)
    odd = strangers(others, {os.path.dirname(header.file) for header in headers})
    series, unfit = series_candidates(headers, damaged, root, config)
    refused += unfit + odd
    return series


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
    answers = [_compact(memory.get(asked)) for asked in questions]
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
                    answers[number] = _compact(answer)
                    if "refused" not in answer:  # next time it may be allowed, whole, or fit into the memory
                        memory.put(questions[number], answer)
            elif len(batch) > 1:
                lost += [[number] for number in batch]  # one of them did it: each by itself
            else:
                answers[batch[0]] = {"refused": [result.reason, result.detail]}
        batches = lost
    return answers


def _compact(answer: Any) -> Any:
    """An answer as it is held: of a million files the headers are, so they must be small."""
    if not answer or "header" not in answer:
        return answer
    return {"header": DicomHeader.from_plain(answer["header"])}


def _refusal(answer: dict[str, Any], path: str | Path) -> ScanError:
    reason, detail = answer["refused"]
    return ScanError(Reason(reason), path, detail)
