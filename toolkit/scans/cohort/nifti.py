"""Writes a volume as a compressed NIfTI file."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from toolkit.errors import DataError
from toolkit.files import write_atomically
from toolkit.scans.cohort.encoding import as_acquired, quantise
from toolkit.scans.volumes import Volume


def write_nifti(volume: Volume, path: str | Path, *, axes: str = "RAS", description: str = "") -> None:
    """Writes one volume as NIfTI, 16-bit with slope and intercept. The same arguments give the same bytes.

    Args:
        volume: One channel. Whole numbers within 16 bits, such as a mask's, are stored as they are.
        path: Ends in `.nii` or `.nii.gz`.
        axes: Where the stored axes run to, as for `write_series`.
        description: Goes into the header; 79 bytes at most.

    Raises:
        DataError: Another suffix, several channels, intensities that do not fit.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: a NIfTI file ends in .nii or .nii.gz")
    array, affine = as_acquired(volume, axes)
    whole = (np.rint(array) == array).all() and np.abs(array).max() <= np.iinfo(np.int16).max
    stored, slope, intercept = quantise(array, "MR", (1.0, 0.0) if whole else None)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_slope_inter(slope, intercept)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = description.encode()
    content = image.to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, gzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)
