"""Volumes from files: NIfTI, NRRD, MetaImage and DICOM series, in right-anterior-superior order."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np

from toolkit.console import log
from toolkit.errors import DataError
from toolkit.scans import itk, nifti
from toolkit.scans.dicom import ANY_DEPTH, files_in, find_series, folders_below, looks_like_dicom, quiet_readers
from toolkit.scans.orientation import to_ras
from toolkit.scans.reasons import Reason, ScanError
from toolkit.scans.series import read_series

VOLUME_SUFFIXES = nifti.SUFFIXES + itk.SUFFIXES
MOST_FOLDERS_LOOKED_AT = 1000
MOST_NOT_FINITE = 0.1
"""Share of a scan's voxels that may be NaN or infinite; they get its smallest finite value."""


@dataclass(frozen=True)
class Volume:
    """One scan.

    Attributes:
        array: Intensities (C, I, J, K), float32, or int16 where a reader was asked for `whole` numbers. I runs to the
            right, J to anterior, K to superior.
        affine: Voxel indices (i, j, k, 1) to world millimetres (x, y, z, 1), shape (4, 4), as in NIfTI.
        not_finite: Share of the voxels that were NaN or infinite in the file; they have the smallest finite value now.
    """

    array: np.ndarray
    affine: np.ndarray
    not_finite: float = 0.0

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


def split_path(path: str | Path) -> tuple[Path, str]:
    """A manifest's `path` as file or folder, and the UID of the DICOM series or "".

    A folder's own name may hold a `#`; only what follows the last one, where no such file or folder is, is a UID.
    """
    whole = Path(path)
    if whole.exists():
        return whole, ""
    before, mark, uid = str(path).rpartition("#")
    return (Path(before), uid) if mark and is_folder(Path(before)) else (whole, "")


def is_folder(place: Path) -> bool:
    """Whether `split_path` gave a folder of DICOM files, or one and all below it."""
    return (place.parent if place.name == ANY_DEPTH else place).is_dir()


def read_volume(path: str | Path, *, whole: bool = False) -> Volume:
    """Reads a scan and turns its axes to RAS. Voxels are permuted and flipped, never interpolated.

    Nothing is allocated before the header was held against the file's size, and packed data are read to their
    checksum.

    Args:
        path: A NIfTI, NRRD or MetaImage file, or a folder that holds one DICOM series; `FOLDER#SERIES_UID` picks one
            of several, `FOLDER/**#SERIES_UID` one whose files lie in several folders below FOLDER.
        whole: Give int16, half the memory, where all values are whole numbers of 16 bits; else all are float32.

    Raises:
        ScanError: The file is truncated, damaged, too large or inconsistent; slices are missing, doubled, unevenly
            spaced, tilted or mixed. `reason` says which.
        DataError: There is no such scan, or a folder holds no or several series.
    """
    return read_files(files_of(path), path, whole=whole)


def files_of(path: str | Path) -> list[Path]:
    """The file of a scan, or those of its DICOM series; `path` is that of `read_volume`.

    Raises:
        DataError: There is no such scan, or a folder holds no or several series.
    """
    place, series_uid = split_path(path)
    if is_folder(place):
        with one_line_errors(path):
            return _series_files(place, series_uid)
    if not place.is_file():  # also a pipe or a device, which would block whoever opens it
        raise DataError(f"{path}: no such scan; check the path in the manifest")
    if not is_volume_file(place):
        raise DataError(
            f"{path}: not a scan that can be read; known are {', '.join(VOLUME_SUFFIXES)} and DICOM folders"
        )
    return [place]


def read_files(files: list[Path], path: str | Path, *, whole: bool = False) -> Volume:
    """`read_volume` where it is known which files: one volume file, or all of one DICOM series in any order.

    Args:
        files: The files.
        path: What to call them in an error.
        whole: See `read_volume`.
    """
    with quiet_readers(), one_line_errors(path):
        if not all(file.stat().st_size for file in files):
            raise ScanError(Reason.TRUNCATED, path, "a file is empty; copy it again")
        if not is_volume_file(files[0]):
            data, affine = read_series(files, path, whole=whole)
        elif files[0].name.lower().endswith(nifti.SUFFIXES):
            data, affine = nifti.read_nifti(files[0], whole=whole)
        else:
            data, affine = itk.read_itk(files[0], whole=whole)
        return _volume(data, affine, path)


def _series_files(folder: Path, series_uid: str) -> list[Path]:
    series = find_series(folder, series_uid)
    if not series:
        missing = f"no DICOM series {series_uid}; check the path" if series_uid else _where_images_are(folder)
        raise DataError(f"{folder}: {missing}")
    if len(series) > 1:
        raise DataError(
            f"{folder}: {len(series)} DICOM series in one folder; name one as {folder}#{next(iter(series))}"
        )
    return next(iter(series.values()))


def _where_images_are(folder: Path) -> str:
    if folder.name != ANY_DEPTH:
        for here in islice(folders_below(folder), 1, MOST_FOLDERS_LOOKED_AT):
            if any(map(looks_like_dicom, map(Path, files_in(here)))):
                return f"no DICOM images in this folder; {here} has some, so name that one"
    return "no DICOM images in this folder; check the path"


def _volume(data: np.ndarray, affine: np.ndarray, path: str | Path) -> Volume:
    if data.ndim > 4 and max(data.shape[3:-1]) == 1:  # NIfTI keeps components in the fifth dimension
        data = data.reshape(*data.shape[:3], data.shape[-1])
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim not in (3, 4) or min(data.shape[:3]) < 2:
        raise ScanError(
            Reason.NOT_A_VOLUME,
            path,
            f"{data.ndim} dimensions {data.shape}; a scan has 3, each at least 2 wide, or 4 with channels last",
        )
    array, affine = to_ras(data, affine)
    array = array[None] if array.ndim == 3 else np.moveaxis(array, 3, 0)
    array = np.ascontiguousarray(array)  # as readers fill `Voxels`, nothing is copied here
    return Volume(array, affine.astype(np.float64), _filled(array, path))


def _filled(array: np.ndarray, path: str | Path) -> float:
    """Gives voxels that are not finite the smallest finite value, in place and plane by plane; returns their share."""
    planes = array.reshape(-1, *array.shape[2:])
    share = 1 - sum(np.count_nonzero(np.isfinite(plane)) for plane in planes) / array.size
    if not share:
        return 0.0
    if share > MOST_NOT_FINITE:
        raise ScanError(
            Reason.INCONSISTENT,
            path,
            f"{share:.0%} of the values are not finite, more than {MOST_NOT_FINITE:.0%}; "
            "give those voxels the background's value first",
        )
    # Not 0, which is water in a CT. Paths carry names, and logs are shown around: the line does not say which scan.
    log.warning("%.2g of a scan's voxels are not finite; they count as its smallest value", share)
    lowest = min(plane[np.isfinite(plane)].min(initial=np.inf) for plane in planes)
    for plane in planes:
        plane[~np.isfinite(plane)] = lowest
    return share


@contextlib.contextmanager
def one_line_errors(path: str | Path) -> Iterator[None]:
    """Whatever a reader says about a broken file, as one line that starts with the path."""
    try:
        yield
    except DataError:
        raise
    except PermissionError:
        raise ScanError(Reason.NO_PERMISSION, path, "you may not read it; ask whom it belongs to") from None
    except MemoryError:
        raise ScanError(
            Reason.TOO_LARGE, path, "does not fit into the memory of a process; use fewer of them, or crop the scan"
        ) from None
    except EOFError:
        raise ScanError(Reason.TRUNCATED, path, "ends too early; copy it again") from None
    except OSError as error:
        if error.errno is None:
            raise _unreadable(error, path) from error
        advice = "the disk or the network failed; look there, and run it again"
        raise ScanError(Reason.UNREADABLE, path, f"{os.strerror(error.errno)}: {advice}") from error
    except (
        zlib.error,
        struct.error,
        ArithmeticError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        nib.filebasedimages.ImageFileError,
    ) as error:
        raise _unreadable(error, path) from error


def _unreadable(error: Exception, path: str | Path) -> ScanError:
    # ITK's message is long and names the file again; what went wrong is its end.
    said = " ".join(str(error).replace(os.fspath(path), "").split()) or type(error).__name__
    return ScanError(Reason.UNREADABLE, path, f"cannot be read, truncated or damaged ({said[-200:]}); copy it again")
