"""Every scan onto one spacing, orientation and intensity scale, by the same steps at training and at use."""

from typing import Annotated, Literal, Self

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from pydantic import Field, PositiveFloat, model_validator
from scipy import ndimage

from toolkit.config import Section
from toolkit.errors import DataError
from toolkit.scans.volumes import Volume

Percentile = Annotated[float, Field(ge=0, le=100)]
_SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


class Preprocessing(Section):
    """How raw volumes become the network's input. It is saved with the weights."""

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (2.0, 2.0, 2.0)
    """Voxel size along right, anterior and superior."""
    orientation: Literal["RAS"] = "RAS"
    """Directions of the array's axes: right, anterior, superior."""
    intensity_percentiles: tuple[Percentile, Percentile] = (1.0, 99.0)
    """Percentiles of the foreground that become 0 and 1; what lies outside is clipped."""
    foreground: Literal["positive", "otsu", "all"] = "positive"
    """Which voxels count: above zero, above Otsu's threshold (noisy air), or all. A mask overrides it."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.intensity_percentiles[0] >= self.intensity_percentiles[1]:
            raise ValueError("intensity_percentiles: the second must be above the first")
        return self


def preprocess(
    volume: Volume, spec: Preprocessing, *, like: Volume | None = None, mask: np.ndarray | None = None
) -> Volume:
    """Resamples and normalises one scan.

    Args:
        volume: The raw scan.
        spec: Spacing, percentiles and foreground rule.
        like: Grid to resample onto; by default a grid of `spec.spacing_mm` over the scan's own extent.
        mask: Foreground (I, J, K) on the output grid; voxels outside become 0. Default: `spec.foreground`.

    Returns:
        The scan with intensities in 0-1, background 0.

    Raises:
        DataError: The scan has no foreground or only one intensity.
    """
    resampled = resample(volume, like or grid_for(volume, spec.spacing_mm))
    if mask is None:
        mask = foreground_mask(resampled.array, spec.foreground)
    if not mask.any():
        raise DataError(f"no foreground ({spec.foreground}) in a scan of shape {volume.shape}; look at the scan")
    channels = []
    for channel in resampled.array:
        low, high = np.percentile(channel[mask], spec.intensity_percentiles)
        if not high > low:
            raise DataError(f"a scan of shape {volume.shape} has one intensity only ({low:g}); look at the scan")
        channels.append(np.where(mask, rescale(channel, low, high), np.float32(0)))
    return Volume(np.stack(channels).astype(np.float32), resampled.affine)


def rescale(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps `low` to 0 and `high` to 1 and clips, float32."""
    return np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)


def foreground_mask(array: np.ndarray, rule: str) -> np.ndarray:
    """Voxels that count, (C, I, J, K) to (I, J, K), judged on the first channel."""
    first = array[0]
    if rule == "all":
        return np.ones(first.shape, bool)
    threshold = 0.0 if rule == "positive" else _otsu(first)
    return first > threshold


def grid_for(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """An empty grid of the wanted spacing over the extent of `volume`, along its own axes."""
    spacing = np.asarray(volume.spacing_mm)
    shape = np.maximum(1, np.ceil(np.asarray(volume.shape) * spacing / spacing_mm - 1e-3)).astype(int)
    zoom = np.asarray(spacing_mm) / spacing
    affine = volume.affine @ np.diag([*zoom, 1.0])
    affine[:3, 3] = (volume.affine @ [*((zoom - 1) / 2), 1.0])[:3]  # the outer faces of the first voxels coincide
    return Volume(np.broadcast_to(np.float32(0), (1, *shape)), affine)


def resample(volume: Volume, like: Volume, *, labels: bool = False) -> Volume:
    """Interpolates `volume` onto the grid of `like` through both affines; 0 outside the scan.

    Args:
        volume: The scan or label map.
        like: Its shape and affine are the output's.
        labels: Nearest neighbour without smoothing, for label maps.
    """
    array = volume.array
    if not labels:  # going to coarser voxels, smooth first or fine detail folds into noise
        ratio = np.asarray(like.spacing_mm) / volume.spacing_mm
        sigma = _SIGMA_PER_FWHM * np.sqrt(np.maximum(ratio**2 - 1, 0))
        if sigma.max() > 0.1:
            array = np.stack([ndimage.gaussian_filter(channel, sigma, mode="nearest") for channel in array])
    image = MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), affine=torch.from_numpy(volume.affine))
    transform = SpatialResample(mode="nearest" if labels else "bilinear", padding_mode="zeros", dtype=np.float64)
    output = transform(image, dst_affine=torch.from_numpy(like.affine), spatial_size=like.shape)
    return Volume(output.numpy().astype(np.float32), like.affine)


def _otsu(array: np.ndarray) -> float:
    """The threshold that separates two classes best (Otsu 1979)."""
    counts, edges = np.histogram(array, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    above, total = below[-1] - below, mass[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (total - mass) / above) ** 2
    return float(centres[np.nanargmax(between)])
