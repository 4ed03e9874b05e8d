"""The anatomy of one made-up person: a head, and the smooth map that bends it into their own."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from toolkit.scans.cohort.config import CohortConfig
from toolkit.scans.cohort.design import stream
from toolkit.scans.cohort.heads import Head
from toolkit.scans.cohort.warp import Deformation, exponential, grid_points, look_up, random_velocity

_LOBES, _FOLDS = ((28.0, 4.0),), ((12.0, 2.0), (7.0, 0.8))
"""Width and strength in millimetres of what differs between people: of the whole head, and inside the skull."""
_SESSION_FOLDS = ((15.0, 0.5), (9.0, 0.25))
_LEAST_JACOBIAN = 0.2
_BRAIN_MM = np.array([70.0, 88.0, 72.0])
"""Half axes of a brain."""


@dataclass(frozen=True)
class Anatomy:
    """A person's head at one session.

    Attributes:
        head: The head that is bent.
        deformation: From this person's space to that of the head, before `shape`.
        shape: Linear part (4, 4): size, proportions and mirroring, applied after `deformation`.
        jacobian_min: Least determinant of the deformation; above 0.
    """

    head: Head
    deformation: Deformation
    shape: np.ndarray
    jacobian_min: float

    def tissue(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """T1 intensity and share of brain (2, I, J, K) on a grid that `affine` places in the person's space."""
        to_person = np.linalg.inv(self.shape) @ self.head.affine
        return look_up(self.head.tissue, to_person, self.deformation, affine, shape)


def anatomy(config: CohortConfig, number: int, session: int, heads: tuple[Head, ...]) -> Anatomy:
    """The anatomy of subject `number` at a session (from 1); sessions differ by a fraction of a millimetre.

    Where the flow squeezes some place to less than a fifth of its volume, as for two people in a hundred, it is made
    weaker until it does not.
    """
    random = stream("subject", config.seed, number, 1)
    head = heads[int(random.integers(len(heads)))]
    mirrored = -1.0 if random.random() < 0.5 else 1.0
    size = np.exp(random.normal(0, 0.03) + random.normal(0, 0.025, 3))
    linear = Rotation.from_rotvec(random.normal(0, 0.02, 3)).as_matrix() * size
    shape = np.eye(4)
    shape[:3, :3] = np.diag([mirrored, 1, 1]) @ linear
    velocity = random_velocity(random, _LOBES) + _in_skull(random_velocity(random, _FOLDS))
    velocity += _ventricles(random.normal(0, 2.5))
    if session > 1:
        velocity += _in_skull(random_velocity(stream("session", config.seed, number, session, 0), _SESSION_FOLDS))
    while True:
        deformation = exponential(velocity)
        least = float(deformation.jacobian().min())
        if least > _LEAST_JACOBIAN:
            return Anatomy(head, deformation, shape, least)
        velocity = 0.8 * velocity


def _in_skull(velocity: np.ndarray) -> np.ndarray:
    """Fades the flow out towards the skull, which has no folds."""
    scaled = (grid_points() - np.array([0.0, -17.0, 8.0])[:, None, None, None]) / _BRAIN_MM[:, None, None, None]
    return velocity * np.clip((1.1 - np.sqrt((scaled**2).sum(0))) / 0.25, 0, 1)


def _ventricles(strength_mm: float) -> np.ndarray:
    """A flow towards (below 0: away from) the middle of the brain: wider or narrower ventricles."""
    offset = grid_points() - np.array([0.0, -15.0, 16.0])[:, None, None, None]
    distance = np.sqrt((offset**2).sum(0))
    return -strength_mm * offset / 18.0 * np.exp(0.5 - distance**2 / (2 * 18.0**2))
