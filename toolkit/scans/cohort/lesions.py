"""Lesions: a place, a shape and a volume in a person's space, the same in every session and sequence."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from toolkit.scans.cohort.anatomy import Anatomy
from toolkit.scans.cohort.config import CohortConfig, Kind
from toolkit.scans.cohort.design import stream

_SEARCH_MM = 4.0
_SEARCH_LOW_MM, _SEARCH_SHAPE = np.array([-80.0, -120.0, -70.0]), (41, 50, 43)
_WAVES = 8
_DEEP_WHITE = 0.75
"""White matter on T1 at 4 mm."""


@dataclass(frozen=True)
class Lesion:
    """One lesion in the person's space.

    Attributes:
        kind: Brighter or darker, sharp or diffuse.
        volume_ml: What was asked for, at this session.
        centre_mm: (3,)
        stretch: (3, 3), offset in millimetres to multiples of the radius before bumps.
        waves: (8, 3) and `phases` (8,): bumps of the surface.
        phases: See `waves`.
        contrast: Change of intensity at the centre, signed.
    """

    kind: Kind
    volume_ml: float
    centre_mm: np.ndarray
    stretch: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    contrast: float

    @property
    def radius_mm(self) -> float:
        """Of a ball of this volume."""
        return float((3 * self.volume_ml * 1000 / (4 * np.pi)) ** (1 / 3))

    def distance(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Bent distance from the centre (I, J, K) in millimetres; the lesion is where it is small."""
        offset = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + (affine[:3, 3] - self.centre_mm)
        bumps = np.cos(offset @ self.waves.T + self.phases).mean(-1)
        return (np.linalg.norm(offset @ self.stretch.T, axis=-1) * self.radius_mm * (1 + 0.6 * bumps)).reshape(shape)


def lesion(config: CohortConfig, number: int, session: int, anatomy: Anatomy) -> Lesion:
    """The lesion of subject `number` at a session (from 1).

    Args:
        config: Kinds, volumes and region.
        number: The subject, who is taken to have one.
        session: Later ones find it grown.
        anatomy: Of the first session: the place is looked for there, and kept.
    """
    random, wanted = stream("subject", config.seed, number, 2), config.lesion
    kind = wanted.kinds[int(random.integers(len(wanted.kinds)))]
    low, high = np.log(wanted.volume_ml)
    first_ml = float(np.exp(random.uniform(low, high)))
    radius_mm = (3 * first_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    proportions = np.exp(random.normal(0, 0.2, 3))
    proportions /= proportions.prod() ** (1 / 3)
    turn = Rotation.from_rotvec(random.normal(0, 1, 3)).as_matrix()
    return Lesion(
        kind,
        first_ml * wanted.growth ** (session - 1),
        _place(random, wanted.region, radius_mm, anatomy),
        turn / (proportions[:, None] * radius_mm),
        random.normal(0, 1.6 / radius_mm, (_WAVES, 3)),
        random.uniform(0, 2 * np.pi, _WAVES),
        wanted.contrast if kind.startswith("bright") else -wanted.contrast,
    )


def mask_and_strength(
    lesion: Lesion, brain: np.ndarray, affine: np.ndarray, voxel_ml: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the lesion is on a grid, and how strongly it shows.

    The mask is the voxels of the brain nearest to the centre (by the bent distance), as many as make up the volume:
    so the volume holds on every grid, and near the brain's surface the lesion grows inwards.

    Args:
        lesion: In the person's space.
        brain: Share of brain (I, J, K).
        affine: Voxels to the person's space, millimetres.
        voxel_ml: Volume of one voxel.

    Returns:
        Mask (I, J, K), bool, and strength (I, J, K) in 0-1, about a half at the mask's edge.
    """
    strength, mask = np.zeros(brain.shape, np.float32), np.zeros(brain.shape, bool)
    # Everything happens in a box around the centre: three radii hold even a lesion against the skull.
    centre = np.linalg.solve(affine, [*lesion.centre_mm, 1])[:3]
    reach = 3 * lesion.radius_mm / np.linalg.norm(affine[:3, :3], axis=0) + 2
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, brain.shape).astype(int)
    box = tuple(slice(*bounds) for bounds in zip(low, high, strict=True))
    shifted = affine.copy()
    shifted[:3, 3] = (affine @ [*low, 1])[:3]
    distance = lesion.distance(shifted, brain[box].shape)
    inside = np.where(brain[box] > 0.5, distance, np.inf).ravel()
    count = min(max(1, round(lesion.volume_ml / voxel_ml)), int(np.isfinite(inside).sum()))
    assert count, "no brain around the lesion: its place was looked for in another one"
    nearest = np.argsort(inside, kind="stable")[:count]
    inner = np.zeros(inside.shape, bool)
    inner[nearest] = True
    mask[box] = inner.reshape(distance.shape)
    edge_mm = 0.4 if lesion.kind.endswith("sharp") else max(1.5, 0.3 * lesion.radius_mm)
    fall = np.clip((distance - inside[nearest[-1]]) / edge_mm, -30, 30)
    strength[box] = brain[box] / (1 + np.exp(fall))
    return mask, strength


def _place(random: np.random.Generator, region: str, radius_mm: float, anatomy: Anatomy) -> np.ndarray:
    """A place inside the brain, as deep as the radius where the region allows it."""
    affine = np.diag([_SEARCH_MM] * 3 + [1.0])
    affine[:3, 3] = _SEARCH_LOW_MM
    t1, brain = anatomy.tissue(affine, _SEARCH_SHAPE)
    depth_mm = ndimage.distance_transform_edt(brain > 0.5) * _SEARCH_MM
    right_mm = _SEARCH_LOW_MM[0] + _SEARCH_MM * np.arange(_SEARCH_SHAPE[0])[:, None, None]
    allowed = {
        "anywhere": depth_mm > 0,
        "white_matter": (t1 > _DEEP_WHITE) & (depth_mm >= 8),
        "cortex": (depth_mm > 0) & (depth_mm <= max(12, radius_mm + _SEARCH_MM)),
        "left": (depth_mm > 0) & (right_mm < -_SEARCH_MM),
        "right": (depth_mm > 0) & (right_mm > _SEARCH_MM),
    }[region]
    deep_enough = min(radius_mm, float(depth_mm[allowed].max(initial=0)))
    places = np.argwhere(allowed & (depth_mm >= deep_enough) & (depth_mm > 0))
    place = places[int(random.integers(len(places)))] + random.uniform(-0.5, 0.5, 3)
    return _SEARCH_LOW_MM + _SEARCH_MM * place
