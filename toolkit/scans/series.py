"""One DICOM series as one volume: frames sorted along their normal, and only what is an even stack of slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, iter_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from toolkit.scans.dicom import DicomHeader, distinct, read_header
from toolkit.scans.itk import LPS_TO_RAS
from toolkit.scans.orientation import TILT_TOLERANCE, check_affine
from toolkit.scans.promises import check_packed, check_voxels
from toolkit.scans.reasons import Reason, ScanError
from toolkit.scans.voxels import Voxels

SPACING_TOLERANCE = 0.02  # of the slice distance: scanners round positions to a few micrometres, gaps are whole slices
_SAME_PLACE_MM = 1e-3
_GREY = ("", "MONOCHROME2")


@dataclass(frozen=True)
class Stack:
    """Where the frames of a series lie.

    Attributes:
        frames: (file, number of the frame within it), from the first slice to the last along the normal.
        shape: Columns, rows, slices.
        affine: Those three indices to DICOM's world millimetres (left, posterior, superior), shape (4, 4).
    """

    frames: list[tuple[str, int]]
    shape: tuple[int, int, int]
    affine: np.ndarray


def read_series(files: list[Path], path: str | Path, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (columns, rows, slices) in the units of the modality (HU, Bq/ml), and the affine to RAS.

    The rescale slope and intercept, or the modality's table, are those of each slice or frame: PET has its own in each.

    Args:
        files: All files of one series, in any order; those that are byte for byte another one count once.
        path: What to call the series in an error.
        whole: See `Voxels`.

    Raises:
        ScanError: See `stack_frames`; pixels are missing or cannot be decoded.
    """
    headers = distinct([header for header in map(read_header, files) if header is not None])
    stack = stack_frames(headers, path)
    for header in headers:
        _check_pixels(header, path)
    affine = LPS_TO_RAS @ stack.affine
    check_affine(affine, path)
    voxels = Voxels(stack.shape, affine, whole=whole)
    places: dict[str, list[tuple[int, int]]] = {}
    for place, (file, frame) in enumerate(stack.frames):
        places.setdefault(file, []).append((place, frame))
    for file, wanted in places.items():
        data = _dataset(Path(file), path)
        decoded = _decoded(data, len(wanted), path)
        for pixels, (place, frame) in zip(decoded, sorted(wanted, key=itemgetter(1)), strict=True):
            voxels.put((slice(None), slice(None), place), _rescaled(pixels, data, frame).T)
        del data, pixels  # of several frames they are half the scan again
    return voxels.array, affine


def stack_frames(headers: list[DicomHeader], path: str | Path) -> Stack:
    """Sorts the frames of a series by position along the slices' normal; instance numbers are not looked at.

    Raises:
        ScanError: Slices without position, of several orientations, sizes or spacings, missing, doubled or unevenly
            spaced, or sheared by a tilted gantry; fewer than two; colour.
    """
    first = headers[0]
    for header in headers:
        if header.samples != 1 or header.photometric not in _GREY:
            raise ScanError(
                Reason.NOT_A_VOLUME, path, f"pixels are {header.photometric or 'colour'}; only MONOCHROME2 is read"
            )
    if sizes := {(header.rows, header.columns) for header in headers} - {(first.rows, first.columns)}:
        raise ScanError(Reason.MIXED_SLICES, path, f"slices of {len(sizes) + 1} sizes in one series; split it")
    frames = [(header.file, number, *frame) for header in headers for number, frame in enumerate(header.frames)]
    if len(frames) < 2:
        raise ScanError(Reason.NOT_A_VOLUME, path, "1 slice; a volume has several")
    check_voxels(len(frames) * first.rows * first.columns, path)
    if any(part is None for frame in frames for part in frame[2:]):
        raise ScanError(
            Reason.NO_POSITION, path, "slices without position, orientation or pixel spacing; export the series again"
        )
    try:
        positions, orientations, spacings = (np.array([frame[part] for frame in frames], float) for part in (2, 3, 4))
        rows_and_columns = orientations.reshape(-1, 2, 3)
    except ValueError:
        raise ScanError(
            Reason.INCONSISTENT, path, "positions or orientations of a wrong length; export it again"
        ) from None
    if not all(np.isfinite(numbers).all() for numbers in (positions, orientations, spacings)):
        raise ScanError(
            Reason.INCONSISTENT, path, "positions, orientations or spacings that are no numbers; export it again"
        )
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise ScanError(
            Reason.MIXED_ORIENTATIONS, path, "slices of several orientations in one series (a localiser?); leave it out"
        )
    if np.abs(spacings - spacings[0]).max() > 1e-3:
        raise ScanError(Reason.MIXED_SLICES, path, "slices of several pixel spacings in one series; split it")
    along_row, along_column = rows_and_columns[0]
    if np.abs(rows_and_columns[0] @ rows_and_columns[0].T - np.eye(2)).max() > 1e-2:
        raise ScanError(
            Reason.INCONSISTENT, path, "the orientation's two directions are not at right angles; export it again"
        )
    order = _order(positions, np.cross(along_row, along_column), path)
    start, end = positions[order[0]], positions[order[-1]]
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacings[0, 1]  # the second number is the distance between columns
    affine[:3, 1] = along_column * spacings[0, 0]
    affine[:3, 2] = (end - start) / (len(order) - 1)
    affine[:3, 3] = start
    return Stack([frames[index][:2] for index in order], (first.columns, first.rows, len(order)), affine)


def _order(positions: np.ndarray, normal: np.ndarray, path: str | Path) -> np.ndarray:
    """Order of the slices along their common normal; refuses what is not a stack of evenly spaced slices."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    usual = float(np.median(gaps))
    if gaps.min() < _SAME_PLACE_MM:
        raise ScanError(
            Reason.DOUBLED_SLICES,
            path,
            f"several slices at one position, {int((gaps < _SAME_PLACE_MM).sum())} too many "
            "(echoes, time points, diffusion?); split the series",
        )
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > SPACING_TOLERANCE * usual:
        missing = np.rint(gaps / usual) - 1
        is_whole = (np.abs(gaps - (missing + 1) * usual) < 5 * SPACING_TOLERANCE * usual).all() and missing.min() >= 0
        seen = f"{gaps[worst]:.3f} mm after slice {worst + 1} where {usual:.3f} mm is usual"
        if is_whole and missing.sum():
            raise ScanError(
                Reason.MISSING_SLICES, path, f"{int(missing.sum())} of them, {seen}; export the series again"
            )
        raise ScanError(Reason.IRREGULAR_SPACING, path, f"irregular slice spacing, {seen}; the series is mixed")
    steps = np.diff(positions[order], axis=0)
    sideways = np.linalg.norm(steps - np.outer(steps @ normal, normal), axis=1)
    if sideways.max() > TILT_TOLERANCE * usual:
        degrees = np.degrees(np.arctan(np.median(sideways) / usual))
        raise ScanError(
            Reason.GANTRY_TILT, path, f"slices are shifted sideways, {degrees:.1f} degrees; resample it to right angles"
        )
    return order


def _check_pixels(header: DicomHeader, path: str | Path) -> None:
    """Refuses a file that is too short for its pixels, before any are allocated."""
    promised = header.rows * header.columns * len(header.frames) * header.bits // 8
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        check_packed(promised, header.num_bytes, path)
    elif header.num_bytes < promised and not UID(header.transfer_syntax or ImplicitVRLittleEndian).is_compressed:
        raise ScanError(
            Reason.TRUNCATED,
            path,
            f"pixels of a file take {promised:,} bytes and it has {header.num_bytes:,}; copy it again",
        )


def _dataset(file: Path, path: str | Path) -> pydicom.Dataset:
    """One file, with its pixels as they are stored."""
    data = pydicom.dcmread(file, force=True)
    if not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ScanError(Reason.TRUNCATED, path, "a file without its pixels; copy it again")
    if not data.file_meta.get("TransferSyntaxUID"):  # a file without preamble
        is_implicit, is_little = data.original_encoding
        data.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        )
    return data


def _decoded(data: pydicom.Dataset, promised: int, path: str | Path) -> Iterator[np.ndarray]:
    """Stored values (rows, columns) of each frame of a file, one after the other; refuses more or fewer than promised.

    Packed frames may be more or fewer than the header says, and then nothing tells which are its own.
    """
    count = 0
    try:
        for pixels in iter_pixels(data):
            count += 1
            if count > promised:
                break
            yield pixels
    except Exception as error:  # each decoder has errors of its own
        said = " ".join(str(error).split())
        is_short = "less than expected" in said
        raise ScanError(
            Reason.TRUNCATED if is_short else Reason.UNREADABLE,
            path,
            f"pixels cannot be decoded ({said[:200]}); copy it again",
        ) from None
    if count != promised:
        found = f"{count} frames" if count < promised else "more frames"
        raise ScanError(Reason.INCONSISTENT, path, f"{found} where a file's header has {promised}; export it again")


def _rescaled(pixels: np.ndarray, data: pydicom.Dataset, frame: int) -> np.ndarray:
    """One frame in the modality's units, by the frame's own slope, else the one that all share, else the file's."""
    groups = [
        group[number]
        for name, number in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0))
        if (group := data.get(name))
    ]
    for group in groups:
        if transformation := group.get("PixelValueTransformationSequence"):
            return apply_modality_lut(pixels, transformation[0])
    return apply_modality_lut(pixels, data)
