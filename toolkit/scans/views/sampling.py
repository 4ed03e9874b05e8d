"""Draws the parameters of views. Each augmentation has its own stream: the others' draws do not move with it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from toolkit.scans.views.config import ViewConfig
from toolkit.scans.views.draws import Stream, uniform
from toolkit.scans.views.kspace import ghosting_mask, motion_mask
from toolkit.scans.views.noise import NOISE_BANK_SIZE
from toolkit.scans.views.parameters import ViewParameters, identity_parameters

MAX_WINDOWS = 5
"""Of one mask, as in Models Genesis."""
GHOST_PERIODS = (2, 8)
"""From every second line of k-space to every eighth."""
_SHARP = 0.1  # voxels; a Gaussian below it blurs nothing and costs the same


class _Draws:
    """The numbers of one view of some samples, V."""

    def __init__(self, seed: int, epoch: int, samples: np.ndarray, view: int) -> None:
        self.seed, self.epoch, self.samples, self.view = seed, epoch, samples, view

    def uniform(self, stream: Stream, count: int) -> np.ndarray:
        """Numbers in [0, 1), (count, V)."""
        return uniform(self.seed, self.epoch, self.samples, self.view, stream, count).T

    def signed(self, stream: Stream, count: int) -> np.ndarray:
        """Numbers in [-1, 1), (count, V)."""
        return 2 * self.uniform(stream, count) - 1

    def chosen(self, stream: Stream, probability: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Which views have it (V,), and then numbers in [0, 1), (count, V)."""
        numbers = self.uniform(stream, 1 + count)
        return numbers[0] < probability, numbers[1:]


def sample_parameters(
    config: ViewConfig,
    seed: int,
    epoch: int,
    samples: np.ndarray,
    view: int,
    *,
    spacing_mm: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0),
) -> ViewParameters:
    """Draws the parameters of one view of each sample.

    Args:
        config: Limits of the draws.
        seed: The run's seed.
        epoch: Pass over the samples.
        samples: (V,) sample numbers.
        view: Which of a sample's views, from 0.
        spacing_mm: Sides of the voxels, (3,) or of each sample (V, 3): what is turned keeps its shape in the world.
    """
    draws = _Draws(seed, epoch, np.asarray(samples), view)
    drawn = {
        "matrices": _matrices(config, draws, np.asarray(spacing_mm, float)),
        "displacements": _displacements(config, draws),
        "low_resolution": _low_resolution(config, draws),
        **_shading(config, draws),
        **_filters(config, draws),
        **_noise(config, draws),
        **_masks(config, draws),
    }
    return replace(identity_parameters(config.patch_size, len(draws.samples)), **drawn)


def _signed(numbers: np.ndarray) -> np.ndarray:
    return 2 * numbers - 1


def _matrices(config: ViewConfig, draws: _Draws, spacing_mm: np.ndarray) -> np.ndarray:
    shift = draws.signed(Stream.SHIFT, 3) * config.shift_voxels
    turned, angles = draws.chosen(Stream.ROTATION, config.rotation_probability, 3)
    angles = np.where(turned, np.deg2rad(_signed(angles) * config.rotation_degrees), 0)
    scaled, (exponent,) = draws.chosen(Stream.ZOOM, config.zoom_probability, 1)
    zoom = np.where(scaled, config.zoom ** _signed(exponent), 1)
    flips = np.where(draws.uniform(Stream.FLIP, 3) < np.array(config.flip_probability)[:, None], -1, 1)
    cropped, numbers = draws.chosen(Stream.CROP_RESIZE, config.crop_resize_probability, 4)
    side = np.where(cropped, config.crop_resize + numbers[0] * (1 - config.crop_resize), 1)

    middle = (config.patch_size - 1) / 2
    inside = _signed(numbers[1:]) * (1 - side) * middle  # of the patch, where the smaller cube has its middle
    in_voxels = spacing_mm[..., None, :] / spacing_mm[..., :, None]
    linear = _rotations(angles) * in_voxels * (flips / zoom).T[:, None, :]
    # An even patch has its middle half a voxel before the centre voxel, as in a plain crop; turns keep that.
    translation = shift.T + middle - config.patch_size // 2 + np.einsum("vxi,iv->vx", linear, inside)
    linear *= side[:, None, None]
    translation -= linear.sum(axis=2) * middle
    return np.concatenate([linear, translation[:, :, None]], axis=2).astype(np.float32)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (V, 3, 3) about x, then y, then z, from angles (3, V) in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _displacements(config: ViewConfig, draws: _Draws) -> np.ndarray:
    side = config.elastic_cells + 3 if config.elastic_probability and config.elastic_voxels else 0
    deformed, numbers = draws.chosen(Stream.ELASTIC, config.elastic_probability, 3 * side**3)
    moves = np.where(deformed, _signed(numbers) * config.elastic_voxels, 0).T
    return moves.reshape(len(moves), 3, side, side, side).astype(np.float32)


def _low_resolution(config: ViewConfig, draws: _Draws) -> np.ndarray:
    coarse, (factor, single, axis) = draws.chosen(Stream.LOW_RESOLUTION, config.low_resolution_probability, 3)
    size = np.maximum(np.rint(config.patch_size / (1 + factor * (config.low_resolution - 1))), 1)
    thick = np.floor(axis * 3) == np.arange(3)[:, None]  # slices thicker than their voxels are wide
    along = coarse & (thick | (single >= 0.5))
    return np.where(along, size, config.patch_size).T.astype(np.int64)


def _shading(config: ViewConfig, draws: _Draws) -> dict[str, np.ndarray]:
    blurred, (sigma,) = draws.chosen(Stream.BLUR, config.blur_probability, 1)
    sigma = np.where(blurred, sigma * config.blur_sigma_voxels, 0)
    biased, bias = draws.chosen(Stream.BIAS_FIELD, config.bias_field_probability, 6)
    bent, (exponent, inverted) = draws.chosen(Stream.GAMMA, config.gamma_probability, 2)
    changed, (contrast,) = draws.chosen(Stream.CONTRAST, config.contrast_probability, 1)
    lit, (brightness,) = draws.chosen(Stream.BRIGHTNESS, config.brightness_probability, 1)
    return {
        "blur_sigma": np.where(sigma < _SHARP, 0, sigma).astype(np.float32),
        "bias": np.where(biased, _signed(bias) * config.bias_field, 0).T.astype(np.float32),
        "gamma": np.where(bent, config.gamma ** _signed(exponent), 1).astype(np.float32),
        "inverted": inverted < config.gamma_inverted_probability,
        "contrast": np.where(changed, 1 + _signed(contrast) * config.contrast, 1).astype(np.float32),
        "brightness": np.where(lit, _signed(brightness) * config.brightness, 0).astype(np.float32),
    }


def _filters(config: ViewConfig, draws: _Draws) -> dict[str, np.ndarray]:
    if not (config.ghosting_probability or config.motion_probability):
        return {}
    size = config.patch_size
    axis = np.floor(3 * draws.uniform(Stream.AXIS, 1)[0])
    ghostly, (period, weakness) = draws.chosen(Stream.GHOSTING, config.ghosting_probability, 2)
    period = GHOST_PERIODS[0] + np.floor(period * (GHOST_PERIODS[1] - GHOST_PERIODS[0] + 1))
    weakness = np.where(ghostly, weakness * config.ghosting, 0)
    moved, numbers = draws.chosen(Stream.MOTION, config.motion_probability, 4)
    shifts = np.where(moved, _signed(numbers[2:]) * config.motion_voxels, 0)
    factors = ghosting_mask(size, period, weakness) * motion_mask(size, np.sort(numbers[:2], axis=0), shifts)
    filters = np.fft.ifft(factors)
    return {
        "filter_axis": np.where(ghostly | moved, axis, -1).astype(np.int64),
        "filters": np.stack([filters.real, filters.imag], axis=1).astype(np.float32),
    }


def _noise(config: ViewConfig, draws: _Draws) -> dict[str, np.ndarray]:
    noisy, (noise, offset) = draws.chosen(Stream.NOISE, config.noise_probability, 2)
    magnitude, (rician, *offsets) = draws.chosen(Stream.RICIAN, config.rician_probability, 3)
    return {
        "noise": np.where(noisy, noise * config.noise, 0).astype(np.float32),
        "rician": np.where(magnitude, rician * config.rician, 0).astype(np.float32),
        "noise_offsets": (np.array([offset, *offsets]).T * NOISE_BANK_SIZE).astype(np.int64),
    }


def _masks(config: ViewConfig, draws: _Draws) -> dict[str, np.ndarray]:
    outer, inner, cutout, size = config.outer_mask, config.inner_mask, config.cutout, config.patch_size

    def windows(stream: Stream, probability: float, sides: tuple[float, float], most: int) -> np.ndarray:
        """One to `most` windows of each view that has any, (V, N, 2, 3)."""
        chosen, numbers = draws.chosen(stream, probability, 1 + 6 * most)
        side, place = numbers[1:].reshape(most, 2, 3, -1).transpose(1, 3, 0, 2)
        side = np.rint(size * (sides[0] + side * (sides[1] - sides[0]))).clip(1, size)
        low = np.floor(place * (size - side + 1))
        present = chosen & (np.arange(most)[:, None] <= numbers[0] * most)
        found = np.where(present.T[:, :, None, None], np.stack([low, low + side], axis=2), 0).astype(np.int64)
        return found if probability else found[:, :0]

    return {
        "outer_mask": windows(Stream.OUTER_MASK, config.outer_mask_probability, (0.75 * outer, outer), MAX_WINDOWS),
        "inner_mask": windows(Stream.INNER_MASK, config.inner_mask_probability, (0.5 * inner, inner), MAX_WINDOWS),
        "cutout": windows(Stream.CUTOUT, config.cutout_probability, (0.5 * cutout, cutout), 1),
        "mask_value": draws.uniform(Stream.MASK_VALUE, 1)[0].astype(np.float32),
    }
