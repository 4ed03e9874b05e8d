"""Random views of a patch: parameters are drawn first, then a deterministic twin applies them.

A view is fixed by (seed, epoch, sample, view), so any view of a past run can be made again and looked at.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from toolkit.config import Section
from toolkit.scans.kernels import BLUR_RADIUS, NOISE_BANK_SIZE, render_views

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class ViewConfig(Section):
    """How far two views of one place may differ. Strengths are limits of uniform draws; 0 turns one off."""

    patch_size: int = Field(24, ge=4)
    """Voxels along each side of the cubic patch."""
    shift_voxels: NonNegative = 4.0
    """The centre moves by up to this along each axis, so that two views overlap in part."""
    rotation_degrees: NonNegative = 15.0
    """About each axis."""
    zoom: float = Field(1.2, ge=1)
    """Scale between 1/zoom and zoom, the same along all axes."""
    flip_probability: tuple[Probability, Probability, Probability] = (0.5, 0.0, 0.0)
    """Mirror images along I (left-right), J and K. Only left-right is anatomy's own symmetry."""
    blur_probability: Probability = 0.5
    """How often a view is blurred."""
    blur_sigma_voxels: float = Field(1.0, ge=0, le=BLUR_RADIUS / 3)
    """Deviation of the Gaussian."""
    gamma: float = Field(1.5, ge=1)
    """Exponent between 1/gamma and gamma, of the intensity or, half of the time, of its negative."""
    contrast: float = Field(0.25, ge=0, lt=1)
    """Contrast factor between 1 - contrast and 1 + contrast."""
    brightness: NonNegative = 0.1
    """Added to the intensities of the foreground (0-1)."""
    bias_field: NonNegative = 0.2
    """Coefficients of a smooth multiplicative shading (quadratic in its logarithm), as coils make it."""
    noise: NonNegative = 0.05
    """Standard deviation of white noise, in units of the 0-1 intensity."""


@dataclass(frozen=True)
class ViewParameters:
    """What the draws came to, for V views.

    Attributes:
        matrices: (V, 3, 4) float32, patch voxel to the offset in voxels from the sample's centre.
        shading: (V, 6) float32, see `kernels.render_views`.
        bias: (V, 6) float32.
        noise_offsets: (V,) int64.
    """

    matrices: np.ndarray
    shading: np.ndarray
    bias: np.ndarray
    noise_offsets: np.ndarray


def sample_parameters(config: ViewConfig, seed: int, epoch: int, samples: np.ndarray, view: int) -> ViewParameters:
    """Draws the parameters of one view of each sample.

    Args:
        config: Limits of the draws.
        seed: The run's seed.
        epoch: Pass over the samples.
        samples: (V,) sample numbers.
        view: Which of a sample's views, 0 or 1.
    """
    # A fixed number of draws a view: switching one augmentation off leaves the others' draws as they were.
    draws = np.stack([np.random.default_rng([seed, epoch, int(sample), view]).random(24) for sample in samples])
    signed = (2 * draws - 1).astype(np.float32)
    uniform = draws.astype(np.float32)

    shift = signed[:, 0:3] * config.shift_voxels
    angles = np.deg2rad(signed[:, 3:6] * config.rotation_degrees)
    zoom = config.zoom ** signed[:, 6]
    flips = np.where(uniform[:, 7:10] < np.float32(config.flip_probability), np.float32(-1), np.float32(1))
    linear = _rotations(angles) * (flips / zoom[:, None])[:, None, :]
    middle = (config.patch_size - 1) / 2
    # An even patch has its middle half a voxel before the centre voxel, as in a plain crop; turns keep that.
    translation = shift + middle - config.patch_size // 2 - linear.sum(axis=2) * middle
    matrices = np.concatenate([linear, translation[:, :, None]], axis=2).astype(np.float32)

    blurred = uniform[:, 10] < config.blur_probability
    shading = np.stack(
        [
            np.where(blurred, uniform[:, 11] * config.blur_sigma_voxels, 0),
            config.gamma ** signed[:, 12],
            uniform[:, 13] < 0.5,
            1 + signed[:, 14] * config.contrast,
            signed[:, 15] * config.brightness,
            uniform[:, 16] * config.noise,
        ],
        axis=1,
    ).astype(np.float32)
    shading[shading[:, 0] < 0.1, 0] = 0  # a tenth of a voxel blurs nothing and costs the same
    bias = (signed[:, 17:23] * config.bias_field).astype(np.float32)
    noise_offsets = (draws[:, 23] * NOISE_BANK_SIZE).astype(np.int64)
    return ViewParameters(matrices, shading, bias, noise_offsets)


def identity_parameters(patch_size: int, num_views: int) -> ViewParameters:
    """Parameters that only cut the patch out."""
    matrices = np.zeros((num_views, 3, 4), np.float32)
    matrices[:, [0, 1, 2], [0, 1, 2]] = 1
    matrices[:, :, 3] = -(patch_size // 2)
    shading = np.tile(np.float32([0, 1, 0, 1, 0, 0]), (num_views, 1))
    return ViewParameters(matrices, shading, np.zeros((num_views, 6), np.float32), np.zeros(num_views, np.int64))


def apply_parameters(
    source: np.ndarray,
    centres: np.ndarray,
    parameters: ViewParameters,
    patch_size: int,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    num_threads: int = 1,
) -> np.ndarray:
    """The deterministic twin: cuts out and transforms one patch a view, in one interpolation.

    Args:
        source: Volume (C, X, Y, Z); intensity = value * scale + offset, normalised to 0-1.
        centres: (V, 3) voxel positions in `source`.
        parameters: From `sample_parameters`.
        patch_size: Voxels along each side.
        scale: See `source`.
        offset: See `source`.
        num_threads: Threads to use; the result is the same for any number.

    Returns:
        (V, C, patch_size, patch_size, patch_size) float32.
    """
    matrices = parameters.matrices.copy()
    matrices[:, :, 3] += centres
    out = np.empty((len(centres), source.shape[0], patch_size, patch_size, patch_size), np.float32)
    shading, bias, noise = parameters.shading, parameters.bias, parameters.noise_offsets
    render_views(source, scale, offset, matrices, shading, bias, noise, out, num_threads)
    return out


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (V, 3, 3) about x, then y, then z, from angles (V, 3) in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
