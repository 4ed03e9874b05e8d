"""DICOM headers: which files are images, which series they belong to, and the few tags that are looked at."""

import contextlib
import functools
import hashlib
import logging
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID

from toolkit.errors import DataError
from toolkit.scans.reasons import Reason, ScanError

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName",
    "AccessionNumber", "StudyDate", "StudyTime", "Modality", "ImageType", "SeriesDescription",
    "ProtocolName", "BodyPartExamined", "InstitutionName", "Manufacturer", "ManufacturerModelName",
    "ConvolutionKernel", "ContrastBolusAgent", "BurnedInAnnotation", "RecognizableVisualFeatures",
    "ReferringPhysicianName", "OperatorsName", "StationName", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated",
    "NumberOfFrames", "PhotometricInterpretation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
]  # fmt: skip
_NAMING = ("PatientName", "PatientID", "InstitutionName", "ReferringPhysicianName", "OperatorsName", "StationName")
_PREFIX_AT = 128
ANY_DEPTH = "**"
"""As the last part of a folder's path: and all folders below."""


@dataclass(frozen=True)
class DicomHeader:
    """What is read of one image file besides its pixels. Holds identifiers: for the audit alone.

    Attributes:
        file: Its path.
        names: Words of the tags that name people and places.
        frames: For each frame its position (3 numbers), orientation (6) and pixel spacing (2), None where unknown.
    """

    file: str
    num_bytes: int
    series_uid: str
    sop_uid: str = ""
    sop_class: str = ""
    transfer_syntax: str = ""
    study_uid: str = ""
    person: str = ""
    accession: str = ""
    time: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    description: str = ""
    body_part: str = ""
    institution: str = ""
    manufacturer: str = ""
    model: str = ""
    kernel: str = ""
    contrast: bool = False
    burned_in: str = ""
    recognisable: str = ""
    names: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    bits: int = 0
    samples: int = 1
    photometric: str = ""
    frames: list[tuple[list[float] | None, list[float] | None, list[float] | None]] = field(default_factory=list)


def looks_like_dicom(path: Path) -> bool:
    """Whether the first bytes are DICOM's, with or without the preamble; never by the name."""
    with path.open("rb") as file:
        head = file.read(_PREFIX_AT + 4)
    if head[_PREFIX_AT:] == b"DICM":
        return True
    # Without preamble a file begins with an element of group 2 or 8 (little-endian), small in its number.
    return head[:4] in {bytes([group, 0, element, 0]) for group in (2, 8) for element in (0, 1, 2, 5, 8, 16, 18, 22)}


def read_header(path: Path) -> DicomHeader | None:
    """The header of one file, None where it is DICOM but no image (a report, a plan, a directory of files).

    Raises:
        ScanError: The header is damaged.
    """
    try:
        with quiet_readers():
            return _header(path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True))
    except OSError:
        raise
    except Exception as error:  # over damaged bytes pydicom raises whatever happens, struct.error for one
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        raise ScanError(Reason.UNREADABLE, path, f"damaged DICOM file ({reason}); copy it again") from None


@contextlib.contextmanager
def quiet_readers() -> Iterator[None]:
    """Readers warn with the values of tags and the names of files; neither belongs on anybody's screen."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def find_series(folder: Path, series_uid: str = "") -> dict[str, list[Path]]:
    """The files of the DICOM series in `folder`, by series UID; files of other kinds are passed over.

    Args:
        folder: Its own files are looked at; if its last part is `**`, those of all folders below the rest.
        series_uid: Only this one.

    Raises:
        DataError: A file is damaged, and either no UID is given or it may belong to that series.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for here in _folders_below(folder.parent) if folder.name == ANY_DEPTH else [folder]:
        series, damaged = _index(here, os.stat(here).st_mtime_ns)
        for error in damaged:
            if not series_uid or series_uid in uids_in(Path(error.path)):
                raise error
        for uid, files in series.items():
            if uid == series_uid or not series_uid:
                found[uid] += files
    return dict(found)


def _folders_below(folder: Path) -> Iterator[Path]:
    for here, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(here)


def uids_in(path: Path) -> set[str]:
    """What looks like a UID in the first megabyte of a damaged file (headers are no longer); none if it is closed."""
    try:
        with path.open("rb") as file:
            return {uid.decode("ascii") for uid in re.findall(rb"\d[\d.]{3,62}\d", file.read(1 << 20))}
    except OSError:
        return set()


def distinct_files(files: list[Path]) -> list[Path]:
    """`files` without those that are byte for byte another one: an export that was made twice."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in files:
        by_size[path.stat().st_size].append(path)
    kept: dict[bytes | Path, Path] = {}
    for alike in by_size.values():
        for path in alike:
            kept.setdefault(_digest(path) if len(alike) > 1 else path, path)
    return sorted(kept.values())


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@functools.lru_cache(maxsize=64)
def _index(folder: Path, _changed_ns: int) -> tuple[dict[str, list[Path]], list[ScanError]]:
    """Series and damaged files directly in `folder`; remembered, since each of its series is asked for in turn."""
    series: dict[str, list[Path]] = defaultdict(list)
    damaged = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not looks_like_dicom(path):
            continue
        try:
            header = read_header(path)
        except ScanError as error:
            damaged.append(error)
            continue
        if header is not None:
            series[header.series_uid].append(path)
    return dict(series), damaged


def _header(path: Path, data: pydicom.Dataset) -> DicomHeader | None:
    def text(name: str) -> str:
        return " ".join(str(data.get(name, "") or "").split())

    meta = getattr(data, "file_meta", pydicom.Dataset())
    sop_class = text("SOPClassUID")
    if "Rows" not in data and "Image" not in UID(sop_class).name:
        if not sop_class and "MediaStorageSOPClassUID" not in meta:
            raise DataError("neither an image nor anything else that is known")
        return None
    if not text("SeriesInstanceUID") or "Rows" not in data or "Columns" not in data:
        raise DataError("the header ends before series, rows and columns are named")
    return DicomHeader(
        file=str(path),
        num_bytes=path.stat().st_size,
        series_uid=text("SeriesInstanceUID"),
        sop_uid=text("SOPInstanceUID"),
        sop_class=sop_class,
        transfer_syntax=str(meta.get("TransferSyntaxUID", "")),
        study_uid=text("StudyInstanceUID"),
        person=text("PatientID"),
        accession=text("AccessionNumber"),
        time=text("StudyDate") and text("StudyDate") + text("StudyTime"),
        modality=text("Modality"),
        image_type=tuple(map(str, _many(data.get("ImageType")))),
        description=" ".join(filter(None, [text("SeriesDescription"), text("ProtocolName")])),
        body_part=text("BodyPartExamined"),
        institution=text("InstitutionName"),
        manufacturer=text("Manufacturer"),
        model=text("ManufacturerModelName"),
        kernel=" ".join(map(str, _many(data.get("ConvolutionKernel")))),
        contrast=bool(text("ContrastBolusAgent")),
        burned_in=text("BurnedInAnnotation"),
        recognisable=text("RecognizableVisualFeatures"),
        names=tuple(text(name) for name in _NAMING if text(name)),
        rows=int(data.Rows),
        columns=int(data.Columns),
        bits=int(data.get("BitsAllocated") or 0),
        samples=int(data.get("SamplesPerPixel") or 1),
        photometric=text("PhotometricInterpretation"),
        frames=_frames(data),
    )


def _frames(data: pydicom.Dataset) -> list[tuple[Any, Any, Any]]:
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        place = tuple(
            _numbers(data.get(name)) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        return [place] * max(int(data.get("NumberOfFrames") or 1), 1)  # type: ignore[list-item]
    shared = (data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]

    def group(frame: pydicom.Dataset, sequence: str, name: str) -> list[float] | None:
        items = frame.get(sequence) or shared.get(sequence)
        return _numbers(items[0].get(name)) if items else None

    return [
        (
            group(frame, "PlanePositionSequence", "ImagePositionPatient"),
            group(frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
            group(frame, "PixelMeasuresSequence", "PixelSpacing"),
        )
        for frame in per_frame
    ]


def _numbers(value: Any) -> list[float] | None:
    return [float(number) for number in _many(value)] or None


def _many(value: Any) -> list[Any]:
    """One value, several or none, as a list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, pydicom.multival.MultiValue | list) else [value]
