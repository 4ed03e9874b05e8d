"""Every scan onto one spacing, orientation and intensity scale, by the same steps at training and at use."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from toolkit.config import Section
from toolkit.errors import DataError
from toolkit.scans.percentiles import percentiles
from toolkit.scans.resampling import grid_for, resample
from toolkit.scans.volumes import Volume

Percentile = Annotated[float, Field(ge=0, le=100)]
BELOW_IS_HU = -200.0
"""No MR or PET image goes so low; in CT, air is -1000."""
ZSCORE_REACH = 4.0
"""Deviations from the mean that become 0 and 1."""


class Preprocessing(Section):
    """How raw volumes become the network's input. It is saved with the weights."""

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (2.0, 2.0, 2.0)
    """Voxel size along right, anterior and superior."""
    orientation: Literal["RAS"] = "RAS"
    """Directions of the array's axes: right, anterior, superior."""
    intensity: Literal["percentiles", "zscore", "window", "modality"] = "percentiles"
    """What becomes 0 and 1; what lies outside is clipped. percentiles of the foreground; zscore: its mean less and plus
    4 deviations; window: `window_hu`, for CT; modality: the window for scans that go below -200, as only Hounsfield
    units do, and percentiles for all others."""
    intensity_percentiles: tuple[Percentile, Percentile] = (1.0, 99.0)
    """Percentiles of the foreground that become 0 and 1."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """Hounsfield units that become 0 and 1."""
    foreground: Literal["positive", "otsu", "all"] = "positive"
    """Which voxels count, the others become 0: above zero (in CT: above the window's lower end), above Otsu's threshold
    (noisy air; in CT it takes the lungs for air), or all. A mask overrides it."""
    crop_margin_mm: NonNegativeFloat | None = None
    """Cut off what is further than this from the foreground's box, found by Otsu's threshold where `foreground` leaves
    air. Empty: keep the scan's whole extent, which costs next to nothing in a compressed store."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for name in ("intensity_percentiles", "window_hu"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name}: the second must be above the first")
        return self


def preprocess(
    volume: Volume,
    spec: Preprocessing,
    *,
    like: Volume | None = None,
    mask: np.ndarray | None = None,
    overwrite: bool = False,
) -> Volume:
    """Resamples, crops and normalises one scan.

    Args:
        volume: The raw scan.
        spec: Spacing, intensity rule, foreground rule and margin.
        like: Grid to resample onto, whole; by default a grid of `spec.spacing_mm` over the scan's own extent, cropped
            where `spec` says so.
        mask: Foreground (I, J, K) on the output grid; voxels outside become 0. Default: `spec.foreground`.
        overwrite: The raw scan is needed no more; its memory may become the result's, or be given back.

    Returns:
        The scan with intensities in 0-1, background 0. A label map follows by `resample(labels, it, labels=True)`.

    Raises:
        DataError: The scan has no foreground or only one intensity.
    """
    shape, in_hu = volume.shape, is_hounsfield(volume.array, spec)
    grid = like or grid_for(volume, spec.spacing_mm)
    resampled = resample(volume, grid, outside=spec.window_hu[0] if in_hu else 0.0, overwrite=overwrite)
    del volume  # where the caller does not keep it either, its memory is free from here on
    array, affine, spacing_mm = resampled.array, resampled.affine, resampled.spacing_mm
    del resampled
    if in_hu:
        rescale(array, *spec.window_hu, out=array)
    shown = mask if mask is not None else foreground_mask(array, spec.foreground)
    if not shown.any():
        raise DataError(f"no foreground ({spec.foreground}) in a scan of shape {shape}; look at the scan")
    if spec.crop_margin_mm is not None and like is None:
        has_air = mask is None and (in_hu or spec.foreground == "all")
        body = foreground_mask(array, "otsu") if has_air else shown
        box = foreground_box(body, spec.crop_margin_mm, spacing_mm)
        del body
        array, shown = np.ascontiguousarray(array[:, *box]), shown[box].copy()
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    for channel in array:
        highest = float(channel.max(where=shown, initial=0.0))  # of HU, rescaled: 0 and up
        low, high = (0.0, highest) if in_hu else intensity_range(channel, shown, spec)
        if not high > low:
            raise DataError(f"a scan of shape {shape} has one intensity only ({low:g}); look at the scan")
        if not in_hu:
            rescale(channel, low, high, out=channel)
        for plane, shown_here in zip(channel, shown, strict=True):  # as a whole, ~shown would be a second mask
            plane[~shown_here] = 0
    return Volume(array, affine)


def is_hounsfield(array: np.ndarray, spec: Preprocessing) -> bool:
    """Whether `spec` takes raw intensities for Hounsfield units: it says so, or they go as low as only these do."""
    return spec.intensity == "window" or (spec.intensity == "modality" and float(array.min()) < BELOW_IS_HU)


def intensity_range(array: np.ndarray, mask: np.ndarray, spec: Preprocessing) -> tuple[float, float]:
    """The values that become 0 and 1 where the scan is not in Hounsfield units.

    Args:
        array: Raw intensities, (I, J, K) float32.
        mask: Foreground, of the same shape, not empty.
        spec: The rule.
    """
    if spec.intensity == "zscore":
        mean = array.mean(where=mask, dtype=np.float64)
        squares = [np.square(plane[shown] - mean).sum() for plane, shown in zip(array, mask, strict=True)]
        deviation = np.sqrt(sum(squares) / np.count_nonzero(mask))  # NumPy's own takes several times the scan
        return float(mean - ZSCORE_REACH * deviation), float(mean + ZSCORE_REACH * deviation)
    low, high = percentiles(array, mask, spec.intensity_percentiles)
    return low, high


def rescale(array: np.ndarray, low: float, high: float, out: np.ndarray | None = None) -> np.ndarray:
    """Maps `low` to 0 and `high` to 1 and clips, float32; into `out` where it is given, which may be `array`."""
    out = np.subtract(array, np.float32(low), out=out, dtype=np.float32)
    np.divide(out, np.float32(high - low), out=out)
    return np.clip(out, 0, 1, out=out)


def foreground_mask(array: np.ndarray, rule: str) -> np.ndarray:
    """Voxels that count, (C, I, J, K) to (I, J, K), judged on the first channel."""
    first = array[0]
    if rule == "all":
        return np.ones(first.shape, bool)
    threshold = 0.0 if rule == "positive" else _otsu(first)
    return first > threshold


def foreground_box(mask: np.ndarray, margin_mm: float, spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    """The smallest box around the voxels of `mask` (I, J, K), and a margin, inside the volume."""
    box = []
    for axis, spacing in enumerate(spacing_mm):
        hit = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        margin = int(np.ceil(margin_mm / spacing))
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)


def _otsu(array: np.ndarray) -> float:
    """The threshold that separates two classes best (Otsu 1979)."""
    counts, edges = np.histogram(array, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    above, total = below[-1] - below, mass[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (total - mass) / above) ** 2
    return float(centres[np.nanargmax(between)])
