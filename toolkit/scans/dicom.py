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
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from pydicom.uid import UID

from toolkit.errors import DataError
from toolkit.scans.promises import check_voxels
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
T = TypeVar("T")
Numbers = tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
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
    frames: tuple[tuple[Numbers, Numbers, Numbers], ...] = ()

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "DicomHeader":
        """From what `dataclasses.asdict` gave, also by way of JSON.

        What files have in common is in memory once: an audit holds the headers of all files that it found.
        """
        frames = tuple((_frozen(at), *(_shared(_frozen(part)) for part in rest)) for at, *rest in values["frames"])
        own = {"file": values["file"], "sop_uid": values["sop_uid"], "frames": frames}
        return cls(**{name: _shared(_frozen(value)) for name, value in values.items() if name not in own}, **own)


@functools.lru_cache(maxsize=1 << 14, typed=True)
def _shared(value: T) -> T:
    """The first value that was equal."""
    return value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


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
    except (OSError, ScanError):
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
    for here in folders_below(folder.parent) if folder.name == ANY_DEPTH else [folder]:
        series, damaged = _index(here, os.stat(here).st_mtime_ns)
        for uid, files in series.items():
            found[uid] += files
        for file in damaged:
            if not series_uid or series_uid in uids_in(Path(file)):
                found[series_uid_of(file)].append(Path(file))  # raises, unless it was mended in its place
    return {uid: files for uid, files in found.items() if uid and series_uid in ("", uid)}


def files_in(place: Path) -> list[str]:
    """The files of a folder, sorted; of `FOLDER/**` those of all folders below it, but for hidden ones."""
    folders = folders_below(place.parent) if place.name == ANY_DEPTH else [place]
    return [entry.path for here in folders for entry in sorted(os.scandir(here), key=_name) if entry.is_file()]


def folders_below(folder: Path) -> Iterator[Path]:
    """`folder` and all folders below it, but for hidden ones and those that may not be listed."""
    waiting = [folder]  # and no recursion: a tree may be deeper than Python's stack
    while waiting:
        here = waiting.pop()
        with contextlib.suppress(PermissionError):
            entries = sorted(os.scandir(here), key=_name, reverse=True)
            yield here
            waiting += [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def series_uid_of(file: str) -> str:
    """The UID of an image file's series; "" for a file of another kind.

    Raises:
        ScanError: The file is DICOM and damaged.
    """
    path = Path(file)
    header = read_header(path) if looks_like_dicom(path) else None
    return header.series_uid if header else ""


def uids_in(path: Path) -> set[str]:
    """What looks like a UID in the first megabyte of a damaged file (headers are no longer); none if it is closed."""
    try:
        with path.open("rb") as file:
            return {uid.decode("ascii") for uid in re.findall(rb"\d[\d.]{3,62}\d", file.read(1 << 20))}
    except OSError:
        return set()


def distinct(headers: list[DicomHeader]) -> list[DicomHeader]:
    """`headers`, sorted by file, without those of files that are byte for byte another one: an export made twice.

    Only files of one length and SOP instance can be, so that others need not be read.
    """
    by_instance: dict[tuple[str, int], list[DicomHeader]] = defaultdict(list)
    for header in headers:
        by_instance[header.sop_uid, header.num_bytes].append(header)
    kept: dict[bytes | str, DicomHeader] = {}
    for alike in by_instance.values():
        for header in alike:
            kept.setdefault(_digest(header.file) if len(alike) > 1 else header.file, header)
    return sorted(kept.values(), key=attrgetter("file"))


def _digest(file: str) -> bytes:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


@functools.lru_cache(maxsize=1 << 12)
def _index(folder: Path, _changed_ns: int) -> tuple[dict[str, list[Path]], list[str]]:
    """Series and damaged files directly in `folder`; remembered, since each of its series is asked for in turn."""
    series: dict[str, list[Path]] = defaultdict(list)
    damaged = []
    for file in files_in(folder):
        try:
            uid = series_uid_of(file)
        except ScanError:
            damaged.append(file)
        else:
            series[uid].append(Path(file))
    series.pop("", None)  # other kinds of files
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
        frames=_frames(data, path),
    )


def _frames(data: pydicom.Dataset, path: Path) -> tuple[tuple[Any, Any, Any], ...]:
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        place = tuple(
            _numbers(data.get(name)) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        num_frames = max(int(data.get("NumberOfFrames") or 1), 1)
        check_voxels(num_frames * int(data.Rows) * int(data.Columns), path)  # a promise of billions takes memory too
        return (place,) * num_frames  # type: ignore[return-value]
    shared = (data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]

    def group(frame: pydicom.Dataset, sequence: str, name: str) -> Numbers:
        items = frame.get(sequence) or shared.get(sequence)
        return _numbers(items[0].get(name)) if items else None

    return tuple(
        (
            group(frame, "PlanePositionSequence", "ImagePositionPatient"),
            group(frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
            group(frame, "PixelMeasuresSequence", "PixelSpacing"),
        )
        for frame in per_frame
    )


def _numbers(value: Any) -> Numbers:
    return tuple(float(number) for number in _many(value)) or None


def _many(value: Any) -> list[Any]:
    """One value, several or none, as a list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, pydicom.multival.MultiValue | list) else [value]
