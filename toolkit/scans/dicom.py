"""Which DICOM files make one volume: grouped by series, sorted by position, gaps refused."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from toolkit.errors import DataError

SPACING_TOLERANCE = 0.02  # of the slice distance: scanners round positions to a few micrometres, gaps are whole slices
_HEADER_TAGS = [
    "PatientID", "StudyInstanceUID", "StudyDate", "SeriesInstanceUID", "SeriesDescription", "Modality",
    "InstitutionName", "Manufacturer", "ManufacturerModelName", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "NumberOfFrames", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True)
class SliceHeader:
    """One image file of a series: where it lies and its header without pixels."""

    path: Path
    dataset: pydicom.Dataset


def find_series(folder: Path) -> dict[str, list[SliceHeader]]:
    """The DICOM series directly in `folder`, by series UID; files of other kinds are passed over."""
    series: dict[str, list[SliceHeader]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
            uid = str(dataset.SeriesInstanceUID) if "Rows" in dataset and "SeriesInstanceUID" in dataset else ""
        except InvalidDicomError:
            continue
        except Exception as error:  # over damaged bytes pydicom raises whatever happens, struct.error for one
            raise DataError(f"{path}: damaged DICOM file ({' '.join(str(error).split())}); copy it again") from error
        if uid:
            series[uid].append(SliceHeader(path, dataset))
    return dict(series)


def slice_files(headers: list[SliceHeader], folder: Path) -> list[Path]:
    """The files of one series, sorted along the slice normal.

    Raises:
        DataError: The slices have several orientations or sizes, share a position, or lie at uneven
            distances.
    """
    if len(headers) == 1:
        frames = getattr(headers[0].dataset, "PerFrameFunctionalGroupsSequence", None)
        if frames is not None:
            _check_distances(*_frame_geometry(frames, folder), folder)
        return [headers[0].path]
    try:
        orientations = np.array([header.dataset.ImageOrientationPatient for header in headers], float)
        positions = np.array([header.dataset.ImagePositionPatient for header in headers], float)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: slices without position or orientation; export the series again") from error
    sizes = {(header.dataset.Rows, header.dataset.Columns) for header in headers}
    if len(sizes) > 1:
        raise DataError(f"{folder}: slices of {len(sizes)} sizes in one series; split it")
    order = _check_distances(orientations, positions, folder)
    return [headers[index].path for index in order]


def _frame_geometry(frames: pydicom.Sequence, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
        if "PlaneOrientationSequence" in frames[0]:
            orientations = [frame.PlaneOrientationSequence[0].ImageOrientationPatient for frame in frames]
        else:  # one orientation for all frames: distances along the line through them say the same
            direction = np.subtract(positions[-1], positions[0]).astype(float)
            direction /= max(float(np.linalg.norm(direction)), 1e-9)
            first = np.linalg.svd(direction[None])[2][1]
            orientations = [np.concatenate([first, np.cross(direction, first)])] * len(positions)
    except (AttributeError, IndexError) as error:
        raise DataError(f"{folder}: frames without position; export the series again") from error
    return np.array(orientations, float), np.array(positions, float)


def _check_distances(orientations: np.ndarray, positions: np.ndarray, folder: Path) -> np.ndarray:
    """Order of the slices along their common normal; refuses what is not a stack of evenly spaced slices."""
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise DataError(f"{folder}: slices of several orientations in one series (a localiser?); leave it out")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    if len(gaps) == 0:
        return order
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise DataError(f"{folder}: several slices at one position (echoes or time points?); split the series")
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > SPACING_TOLERANCE * usual:
        raise DataError(
            f"{folder}: irregular slice spacing, {gaps[worst]:.3f} mm after slice {worst + 1} where "
            f"{usual:.3f} mm is usual; a slice is missing or the series is mixed"
        )
    return order
