"""Volumes from files: NIfTI, NRRD and DICOM series, always float32, always right-anterior-superior."""

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from toolkit.console import log
from toolkit.errors import DataError
from toolkit.scans.dicom import find_series, slice_files

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK and DICOM count towards left and posterior


@dataclass(frozen=True)
class Volume:
    """One scan.

    Attributes:
        array: Intensities (C, I, J, K), float32. I runs to the right, J to anterior, K to superior.
        affine: Voxel indices (i, j, k, 1) to world millimetres (x, y, z, 1), shape (4, 4), as in NIfTI.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along I, J and K."""
        i, j, k = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(i), float(j), float(k)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along I, J and K."""
        i, j, k = self.array.shape[1:]
        return i, j, k


def is_volume_file(path: Path) -> bool:
    """Whether the file's name ends as NIfTI or NRRD does (DICOM files are found by their content)."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(path: str | Path) -> Volume:
    """Reads a scan and turns its axes to RAS. Voxels are permuted and flipped, never interpolated.

    Args:
        path: A NIfTI or NRRD file, or a folder that holds one DICOM series; `FOLDER#SERIES_UID` picks one of
            several.

    Raises:
        DataError: The file is missing, truncated or of another kind, the folder holds no or several series,
            slices are missing or unevenly spaced.
    """
    folder, _, series_uid = str(path).partition("#")
    if Path(folder).is_dir():
        return _read_series(Path(folder), series_uid or None)
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such scan; check the path in the manifest")
    if not is_volume_file(path):
        raise DataError(
            f"{path}: not a scan that can be read; known are {', '.join(VOLUME_SUFFIXES)} and DICOM folders"
        )
    with _one_line_errors(path):
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            image = nib.load(path)
            data, affine = np.asanyarray(image.dataobj), image.affine
        else:
            data, affine = _from_itk(sitk.ReadImage(str(path)))
    return _volume(data, affine, path)


def _read_series(folder: Path, series_uid: str | None) -> Volume:
    series = find_series(folder)
    if not series:
        raise DataError(f"{folder}: no DICOM images in this folder")
    if series_uid is None and len(series) > 1:
        raise DataError(
            f"{folder}: {len(series)} DICOM series in one folder; name one as {folder}#{next(iter(series))}"
        )
    if series_uid is not None and series_uid not in series:
        raise DataError(f"{folder}: no DICOM series {series_uid}; known: {', '.join(series)}")
    headers = series[series_uid] if series_uid is not None else next(iter(series.values()))
    files = slice_files(headers, folder)
    with _one_line_errors(folder):
        if len(files) == 1:
            image = sitk.ReadImage(str(files[0]))  # enhanced multi-frame: the frames are one volume already
        else:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames([str(file) for file in files])
            image = reader.Execute()
        data, affine = _from_itk(image)
    return _volume(data, affine, folder)


def _from_itk(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    if image.GetDimension() != 3:
        raise DataError(f"{image.GetDimension()} dimensions where a volume has 3")
    data = sitk.GetArrayFromImage(image)  # (K, J, I) or (K, J, I, C)
    data = np.moveaxis(data, (0, 1, 2), (2, 1, 0))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return data, _LPS_TO_RAS @ affine


def _volume(data: np.ndarray, affine: np.ndarray, path: Path) -> Volume:
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.dtype.names or np.iscomplexobj(data):
        raise DataError(f"{path}: colour or complex voxels; convert the scan to one real number a voxel first")
    if data.ndim not in (3, 4) or min(data.shape) < 1:
        raise DataError(f"{path}: {data.ndim} dimensions {data.shape}; a scan has 3, or 4 with channels last")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: the header's affine does not place the voxels in space; repair the header")
    orientation = nib.orientations.io_orientation(affine)
    array = nib.orientations.apply_orientation(data, orientation)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, data.shape[:3])
    array = array[None] if array.ndim == 3 else np.moveaxis(array, 3, 0)
    array = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        # Paths carry names, and logs are shown around: the line does not say which scan.
        log.warning("%.2g of a scan's voxels are not finite; they count as 0", 1 - finite.mean())
        array = np.where(finite, array, np.float32(0))
    return Volume(array, affine.astype(np.float64))


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Whatever a reader says about a broken file, as one line that starts with the path."""
    try:
        yield
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        RuntimeError,
        nib.filebasedimages.ImageFileError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read, truncated or damaged ({reason[-200:]}); copy it again") from error
