"""From files to scans: DICOM series put together, series of the wrong kind refused."""

import dataclasses
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.sequences import is_localiser, sequence_name
from toolkit.scans.audit.walk import is_named_like_an_image
from toolkit.scans.dicom import ANY_DEPTH, DicomHeader, distinct, uids_in
from toolkit.scans.reasons import Reason, ScanError
from toolkit.scans.series import Stack, stack_frames
from toolkit.scans.volumes import one_line_errors

_BIDS = re.compile(r"(?:^|[_/])(sub|ses)-([A-Za-z0-9]+)")
_SUFFIX = re.compile(r"\.(nii|nrrd|nhdr|mha|mhd)(\.gz)?$", re.IGNORECASE)
_SCREEN = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture, and with more digits its multi-frame kinds


@dataclass(frozen=True)
class Candidate:
    """A scan before its voxels are read.

    Attributes:
        path: As the manifest names it.
        files: What it is read from.
        person: The subject's own number or name.
        guessed_from: What `person` was guessed from, "study" or "path"; "" where it was said.
        study: What is one study of that person, "" if unknown.
        session: What sorts the person's studies, "" if unknown.
        sequence: Short name by rule.
        header: Of a DICOM series, its first file's; of burned-in annotation that of any.
        stack: Of a DICOM series, where its slices lie.
    """

    path: str
    files: tuple[str, ...]
    person: str
    guessed_from: str = ""
    study: str = ""
    session: str = ""
    sequence: str = ""
    header: DicomHeader | None = None
    stack: Stack | None = None

    @property
    def kind(self) -> tuple[Any, ...] | None:
        """What series of one study have in common that show the same; None where nothing else can."""
        header = self.header
        if header is None or not self.study:
            return None
        shown = self.sequence or (header.description.casefold() if header.modality == "MR" else "")
        if header.modality == "MR" and not shown:  # an anonymised export: they may be T1, T2 and FLAIR
            return None
        return self.study, header.modality, shown, header.body_part.casefold(), header.contrast


def volume_candidates(files: list[Path], folder: Path, config: AuditConfig) -> tuple[list[Candidate], list[ScanError]]:
    """NIfTI, NRRD and MetaImage files, a scan each; and those whose subject is not known."""
    kept, refused = [], []
    for path in files:
        inside = path.relative_to(folder).as_posix()
        bids = dict(_BIDS.findall(inside))
        try:
            person, guessed_from = _person_of(inside, str(path), config)
            kept.append(
                Candidate(
                    path=str(path),
                    files=(str(path),),
                    person=person,
                    guessed_from=guessed_from,
                    study=_study_of(bids, inside),
                    session=bids.get("ses", ""),
                    sequence=sequence_name(_SUFFIX.sub("", path.name)),
                )
            )
        except ScanError as error:
            refused.append(error)
    return kept, refused


def _person_of(
    inside: str, path: str, config: AuditConfig, patient_id: str = "", study_uid: str = ""
) -> tuple[str, str]:
    """The subject's own name, and what it was guessed from if nothing says it.

    By the configured pattern, else DICOM's number, BIDS' `sub-`, DICOM's study, folder or file.
    """
    if config.subject_pattern:
        match = re.search(config.subject_pattern, inside)
        if not match or not match[1]:
            raise ScanError(Reason.NO_SUBJECT, path, "its path does not match the pattern for subjects; widen it")
        return match[1], ""
    if said := patient_id or dict(_BIDS.findall(inside)).get("sub", ""):
        return said, ""
    if study_uid:
        return study_uid, "study"
    first, slash, _ = inside.partition("/")
    return first if slash else _SUFFIX.sub("", first), "path"


def _study_of(bids: dict[str, str], inside: str) -> str:
    """A session of BIDS, else all of a BIDS subject, else what lies in one folder; a file at the top stands alone."""
    if "ses" in bids or "sub" in bids:
        return f"ses-{bids.get('ses', '')}"
    return inside.rpartition("/")[0] or inside


def series_candidates(
    headers: list[DicomHeader], damaged: list[Path], folder: Path, config: AuditConfig
) -> tuple[list[Candidate], list[ScanError]]:
    """DICOM series, and those that are no scan to learn from, with the reason.

    Args:
        headers: Of every image file, sorted by file.
        damaged: DICOM files that cannot be read. A series is not whole if its UID stands in one, or if it is the only
            one in the folder of a damaged file that names no series that is known.
        folder: The root of the audit.
        config: What is accepted.
    """
    by_series: dict[str, list[DicomHeader]] = defaultdict(list)
    in_folder: dict[str, set[str]] = defaultdict(set)
    for header in headers:
        by_series[header.series_uid].append(header)
        in_folder[os.path.dirname(header.file)].add(header.series_uid)
    num_lost: dict[str, int] = defaultdict(int)
    for file in damaged:
        around = in_folder[str(file.parent)]
        named = uids_in(file) & by_series.keys()
        for uid in named or (around if len(around) == 1 else ()):
            num_lost[uid] += 1
    kept, refused = [], []
    for uid, members in by_series.items():
        try:
            with one_line_errors(f"{_home(members)}#{uid}"):
                whole, doubled = _without_doubles(members)
            refused += doubled
            kept.append(_series(f"{_home(whole)}#{uid}", whole, num_lost[uid], folder, config))
        except ScanError as error:
            refused.append(error)
    return kept, refused


def strangers(others: list[Path], dicom_folders: set[str]) -> list[ScanError]:
    """Files that are no DICOM, lie among DICOM images, and are named like them: no suffix, or a number for one."""
    return [
        ScanError(Reason.UNREADABLE, path, "lies among DICOM images and is none; copy it again, or take it out")
        for path in others
        if str(path.parent) in dicom_folders and is_named_like_an_image(path)
    ]


def _series(path: str, members: list[DicomHeader], num_lost: int, folder: Path, config: AuditConfig) -> Candidate:
    any_burned = any(header.burned_in.upper() == "YES" for header in members)
    first = dataclasses.replace(members[0], burned_in="YES" if any_burned else members[0].burned_in)
    if first.modality not in config.modalities:
        raise ScanError(
            Reason.WRONG_MODALITY, path, f"{first.modality or 'none'} is not among {', '.join(config.modalities)}"
        )
    if is_localiser(first.description, first.image_type):
        raise ScanError(Reason.LOCALISER, path, "a localiser or scout")
    if is_derived(first) and not config.keep_derived:
        raise ScanError(Reason.DERIVED, path, "ImageType says derived or secondary; --keep-derived keeps such series")
    for name in ("person", "study_uid", "modality", "accession"):
        if len({getattr(header, name) for header in members}) > 1:
            raise ScanError(Reason.MIXED_SLICES, path, f"files of one series differ in {name.replace('_', ' ')}")
    stack = stack_frames(members, path)
    if len(stack.frames) < config.min_slices:
        raise ScanError(Reason.NOT_A_VOLUME, path, f"{len(stack.frames)} slices, and {config.min_slices} are asked for")
    if num_lost:
        raise ScanError(Reason.INCOMPLETE, path, f"{num_lost} of its files cannot be read; copy them again")
    inside = Path(first.file).relative_to(folder).as_posix()
    person, guessed_from = _person_of(inside, path, config, first.person, first.study_uid)
    return Candidate(
        path=path,
        files=tuple(sorted({header.file for header in members})),
        person=person,
        guessed_from=guessed_from,
        study=first.study_uid,
        session=first.time,
        sequence=sequence_name(first.description, contrast=first.contrast) if first.modality == "MR" else "",
        header=first,
        stack=stack,
    )


def is_derived(header: DicomHeader) -> bool:
    """Whether an image was made from others or on a screen, by its ImageType or class."""
    words = [word.upper() for word in header.image_type[:2]]
    return "DERIVED" in words or "SECONDARY" in words or header.sop_class.startswith(_SCREEN)


def _home(members: list[DicomHeader]) -> str:
    """The folder that holds a series' files; `FOLDER/**` where several below FOLDER do."""
    folders = {os.path.dirname(header.file) for header in members}
    return folders.pop() if len(folders) == 1 else f"{os.path.commonpath(folders)}/{ANY_DEPTH}"


def _without_doubles(members: list[DicomHeader]) -> tuple[list[DicomHeader], list[ScanError]]:
    """Without files that are byte for byte another one of the series: an export that was made twice."""
    kept = distinct(members)
    doubled = {header.file for header in members} - {header.file for header in kept}
    folders: dict[str, int] = defaultdict(int)
    for file in sorted(doubled):
        folders[os.path.dirname(file)] += 1
    uid = members[0].series_uid
    refused = [
        ScanError(Reason.DUPLICATE, f"{folder}#{uid}", f"{count} files are byte for byte others of their series")
        for folder, count in folders.items()
    ]
    return kept, refused
