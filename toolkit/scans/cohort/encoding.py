"""How a made-up volume becomes what a scanner exports: stored axes and 16-bit numbers."""

from typing import Literal

import nibabel as nib
import numpy as np

from toolkit.errors import DataError
from toolkit.scans.volumes import Volume

PLANES = {"axial": "LPS", "sagittal": "PIR", "coronal": "LIP"}
"""Where columns, rows and slices run to in the usual DICOM export of each plane."""
_STORED_MAX = 4095  # 12 bits, as most scanners use
_AIR_HU = -1024


def as_acquired(volume: Volume, axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Turns the voxel axes, by permuting and flipping alone.

    Args:
        volume: One channel, axes near RAS (the affine may be oblique).
        axes: Where the three stored axes run to, such as `LPS`, or a plane of `PLANES`.

    Returns:
        Intensities (I', J', K') and the affine that places them, RAS millimetres.

    Raises:
        DataError: Several channels, or `axes` names no three directions.
    """
    if len(volume.array) != 1:
        raise DataError(f"{len(volume.array)} channels where a series has one; write each channel by itself")
    codes = PLANES.get(axes, axes)
    if sorted(_line(code) for code in codes) != ["AP", "IS", "LR"]:
        raise DataError(f"axes {axes!r}: give {', '.join(PLANES)}, or one of L/R, A/P and I/S each, such as LPS")
    orientations = nib.orientations
    turn = orientations.ornt_transform(
        orientations.io_orientation(volume.affine), orientations.axcodes2ornt(tuple(codes))
    )
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.shape)
    return orientations.apply_orientation(volume.array[0], turn), affine


def quantise(
    array: np.ndarray, modality: Literal["MR", "CT"], rescale: tuple[float, float] | None = None
) -> tuple[np.ndarray, float, float]:
    """Stores intensities as 16-bit integers: intensity = stored * slope + intercept, to half a slope.

    Args:
        array: Intensities; Hounsfield units for CT.
        modality: By default CT is stored in steps of 1 HU above -1024, MR in 12 bits over its range.
        rescale: Slope and intercept instead of the default.

    Returns:
        Stored values (int16), slope and intercept.

    Raises:
        DataError: Intensities that are not finite, or do not fit 16 bits.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise DataError("intensities that are not finite cannot be stored; mend the volume first")
    if rescale is None:
        intercept = min(low, 0.0) if modality == "MR" else float(_AIR_HU)
        slope = (high - intercept) / _STORED_MAX if modality == "MR" and high > intercept else 1.0
    else:
        slope, intercept = rescale
    slope, intercept = float(f"{slope:.9g}"), float(f"{intercept:.9g}")  # DICOM's decimal strings hold 16 characters
    limits = np.iinfo(np.int16)
    if not slope > 0:
        raise DataError(f"rescale: a slope of {slope:g} stores nothing; give one above 0")
    if (low - intercept) / slope < limits.min - 0.5 or (high - intercept) / slope > limits.max + 0.5:
        raise DataError(
            f"intensities {low:g} to {high:g} do not fit 16 bits at slope {slope:g}, intercept {intercept:g}; "
            "give a larger slope"
        )
    stored = np.rint((array.astype(np.float64) - intercept) / slope)
    return np.clip(stored, limits.min, limits.max).astype(np.int16), slope, intercept


def _line(code: str) -> str:
    return next((line for line in ("LR", "AP", "IS") if code in line), code)
