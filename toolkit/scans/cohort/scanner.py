"""Sites: what makes the scans of one hospital alike and unlike those of another."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from toolkit.scans.cohort.config import CohortConfig
from toolkit.scans.cohort.design import stream

_PLANES = ("axial", "sagittal", "coronal", "LPI", "RPS")
"""How series are stored; the last two are axial ones, from the top down and mirrored."""
_SLICE_AXIS = {"axial": 2, "sagittal": 0, "coronal": 1, "LPI": 2, "RPS": 2}
_FIELD_OF_VIEW_MM = np.array([180.0, 220.0, 180.0])
_CENTRE_MM = np.array([0.0, -17.0, 16.0])
_IN_BRAIN = {
    "T1": ((0.0, 0.0), (0.2, 0.2), (0.6, 0.6), (0.85, 0.85), (1.4, 1.3)),
    "T2": ((0.0, 0.7), (0.2, 1.0), (0.6, 0.55), (0.85, 0.36), (1.4, 0.3)),
    "FLAIR": ((0.0, 0.05), (0.2, 0.1), (0.42, 0.45), (0.6, 0.66), (0.85, 0.5), (1.4, 0.45)),
}
"""Level on T1 (0.2 fluid, 0.6 grey, 0.85 white) and level on the sequence."""
_ELSEWHERE = {"T1": 1.0, "T2": 0.7, "FLAIR": 0.5}
"""Brightness of skin, fat and muscle relative to T1."""


@dataclass(frozen=True)
class Site:
    """One hospital and its scanner.

    Attributes:
        name: Made up, as are maker and model.
        maker: Manufacturer.
        model: Its model.
        field_t: Tesla.
        gamma: Exponent of the intensities, the site's contrast.
        grey_shift: How much closer grey matter is to white matter than elsewhere.
        bias: (3,) slope of the coil's shading over 100 mm along right, anterior, superior, in the logarithm.
        noise: Deviation of the noise in each of the two receiver channels; white matter on T1 is 0.85.
        blur_voxels: Deviation of the point spread in the plane.
        in_plane: Pixel size in multiples of the cohort's spacing.
        thickness: Slice thickness in the same multiples, a whole number.
        planes: Plane of each sequence.
        oblique: Whether slices follow the head.
        gain: Stored number of an intensity of 1.
    """

    name: str
    maker: str
    model: str
    field_t: float
    gamma: float
    grey_shift: float
    bias: np.ndarray
    noise: float
    blur_voxels: float
    in_plane: float
    thickness: int
    planes: dict[str, str]
    oblique: bool
    gain: float


def site(config: CohortConfig, number: int) -> Site:
    """Site `number` (from 0). What matters most is spread evenly over the sites, so that no two are alike by chance."""
    ranks = np.stack([stream("site", config.seed, 0, which).permutation(config.num_sites) for which in range(5)])
    random = stream("site", config.seed, 1, number)
    gamma, noise, blur, gain, coarse = (ranks[:, number] + random.uniform(0.2, 0.8, 5)) / config.num_sites
    direction = random.normal(size=3)
    field_t = (1.5, 3.0)[int(random.integers(2))]
    return Site(
        f"MADEUP Hospital {number + 1:02d}",
        f"MADEUP Maker {'ABC'[int(random.integers(3))]}",
        f"Phantom {field_t:g}T v{number + 1}",
        field_t,
        float(np.exp((gamma - 0.5) * 0.7)),
        float(random.uniform(-0.3, 0.5)),
        direction / np.linalg.norm(direction) * random.uniform(0.1, 0.35),
        float(0.012 * np.exp(noise * 1.4)),
        float(0.9 * blur),
        float(1 + 0.2 * random.random()),
        2 if coarse > 0.6 else 1,
        {sequence: str(random.choice(_PLANES)) for sequence in config.sequences},
        bool(random.random() < 0.5),
        float(300 * np.exp(gain * 1.8)),
    )


@dataclass(frozen=True)
class Grid:
    """Where the voxels of one series lie.

    Attributes:
        affine: Voxels to scanner millimetres (4, 4), axes near RAS.
        to_person: Scanner millimetres to the person's space (4, 4), rigid.
        shape: Voxels along each axis.
        slice_axis: Along which the slices are stacked.
        thickness: Fine slices that make one.
    """

    affine: np.ndarray
    to_person: np.ndarray
    shape: tuple[int, ...]
    slice_axis: int
    thickness: int

    @property
    def fine(self) -> tuple[np.ndarray, tuple[int, ...]]:
        """Affine to the person's space and shape, with as many slices as make up the thick ones."""
        ratio, shape = np.ones(3), np.array(self.shape)
        ratio[self.slice_axis] /= self.thickness
        shape[self.slice_axis] *= self.thickness
        affine = self.affine @ np.diag([*ratio, 1.0])
        affine[:3, 3] += self.affine[:3, :3] @ ((ratio - 1) / 2)  # the outer faces coincide
        return self.to_person @ affine, tuple(int(count) for count in shape)


def pose(random: np.random.Generator) -> np.ndarray:
    """How a head lies in the scanner: the person's millimetres to scanner millimetres (4, 4), rigid.

    Turns and shifts are bounded, so that the whole brain stays in the field of view.
    """
    placed = np.eye(4)
    placed[:3, :3] = Rotation.from_rotvec(np.deg2rad(random.uniform(-8, 8, 3))).as_matrix()
    placed[:3, 3] = random.uniform(-7, 7, 3)
    return placed


def grid(site: Site, sequence: str, spacing_mm: float, placed: np.ndarray, random: np.random.Generator) -> Grid:
    """The grid on which a site scans a head that lies as `placed` says."""
    axis = _SLICE_AXIS[site.planes[sequence]]
    spacing = np.full(3, spacing_mm * site.in_plane)
    spacing[axis] = spacing_mm * site.thickness
    shape = tuple(int(count) for count in np.ceil(_FIELD_OF_VIEW_MM / spacing))
    affine = np.eye(4)
    tilt = Rotation.from_matrix(placed[:3, :3]) if site.oblique else Rotation.identity()
    affine[:3, :3] = tilt.as_matrix() * spacing
    centre = (placed @ [*_CENTRE_MM, 1])[:3] + random.uniform(-4, 4, 3)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(affine, np.linalg.inv(placed), shape, axis, site.thickness)


def contrast(tissue: np.ndarray, sequence: str, site: Site) -> np.ndarray:
    """Intensities of a sequence at a site, before lesions, shading and noise, from `Anatomy.tissue`."""
    t1, brain = tissue
    levels = np.array(_IN_BRAIN[sequence])
    grey = levels[:, 0] == 0.6
    levels[grey, 1] += site.grey_shift * 0.4 * (levels[levels[:, 0] == 0.85, 1] - levels[grey, 1])
    inner = np.interp(t1, levels[:, 0], levels[:, 1]).astype(np.float32)
    return brain * inner + (1 - brain) * _ELSEWHERE[sequence] * t1


def acquire(ideal: np.ndarray, grid: Grid, site: Site, random: np.random.Generator) -> np.ndarray:
    """What the scanner makes of ideal intensities: point spread, shading, noise, stored gain.

    Args:
        ideal: On `grid.shape`.
        grid: Where they lie.
        site: The scanner.
        random: Of this series.

    Returns:
        Intensities (I, J, K), 0 and above, float32.
    """
    sigma = [0.0 if axis == grid.slice_axis else site.blur_voxels for axis in range(3)]
    blurred = ndimage.gaussian_filter(ideal, sigma, truncate=3)
    shaded = np.maximum(blurred, 0) ** site.gamma * _shading(grid, site, random)
    # Magnitude of a complex signal with normal noise in both parts: Rician (Gudbjartsson and Patz 1995).
    real = shaded + site.noise * random.standard_normal(ideal.shape, dtype=np.float32)
    imaginary = site.noise * random.standard_normal(ideal.shape, dtype=np.float32)
    return (site.gain * np.sqrt(real**2 + imaginary**2)).astype(np.float32)


def thicken(fine: np.ndarray, grid: Grid) -> np.ndarray:
    """Averages the fine slices of each slice, (..., I, J, K)."""
    if grid.thickness == 1:
        return fine
    axis = fine.ndim - 3 + grid.slice_axis
    shape = list(fine.shape)
    shape[axis : axis + 1] = [grid.shape[grid.slice_axis], grid.thickness]
    return fine.reshape(shape).mean(axis + 1, dtype=np.float32)


def _shading(grid: Grid, site: Site, random: np.random.Generator) -> np.ndarray:
    """The coils' sensitivity: the site's slope, and a quadratic of the scan's own, fixed to the scanner."""
    slope = site.bias + random.normal(0, 0.05, 3)
    bend = random.normal(0, 0.06, 3)
    log_shading = np.zeros(grid.shape, np.float32)
    for axis in range(3):
        # Oblique grids are a few degrees off the scanner's axes: along the voxel axes it is near enough.
        x = (np.arange(grid.shape[axis]) + 0.5) / grid.shape[axis] * 2 - 1
        line = (slope[axis] * x + bend[axis] * x**2).astype(np.float32)
        log_shading += line.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.exp(log_shading)
