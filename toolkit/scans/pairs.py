"""Which two crops show the same: the policies of positive pairs.

Each is a pure function of the first crop and of random numbers that follow from (seed, epoch, sample, view), so a pair
can be made again. `same_anatomy` looks at the whole batch, so that the second crops are of as many subjects as can be.
Where there is no partner (no other scan reaches there, no other session), it is the first crop itself.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numba
import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from toolkit.config import Section
from toolkit.errors import ConfigError
from toolkit.scans.crops import Centres
from toolkit.scans.patches import voxel_places, world_positions
from toolkit.splits.groups import codes, members_of

Overlap = Annotated[float, Field(gt=0, le=1)]
_TRIES = 8


@dataclass(frozen=True)
class Place:
    """A crop: which scan, and the voxel (3,) at its middle."""

    scan: int
    centre: np.ndarray


class Rows:
    """What the policies know of the scans.

    Args:
        centres: The scans, and where their foreground lies.
        subjects: Whose each scan is.
        sessions: When each was taken, "" where unknown.
    """

    def __init__(self, centres: Centres, subjects: Sequence[Hashable], sessions: Sequence[Hashable]) -> None:
        self.centres, self.sessions = centres, sessions
        self.subject_of = codes(subjects)
        self.scans_of = members_of(self.subject_of)

    def same_position(self, place: Place, scan: int) -> Place | None:
        """Where the place's world position lies in another scan; None outside of it."""
        volumes = self.centres.volumes
        position_mm = world_positions(volumes[place.scan].affine, place.centre[None])
        voxel = np.rint(voxel_places(volumes[scan].affine, position_mm)[0]).astype(int)
        inside = ((voxel >= 0) & (voxel < volumes[scan].shape)).all()
        return Place(scan, voxel) if inside else None


class SameCrop(Section):
    """Two views of one crop; the views' own shift, rotation and zoom move them a little (SimCLR)."""

    name: Literal["same"] = "same"

    def partner(self, place: Place, rows: Rows, patch_size: int, rng: np.random.Generator) -> Place:
        """The same place."""
        return place


class OverlappingCrops(Section):
    """Two crops of one scan with part of their voxels in common; the batch says how large a part (VoCo)."""

    name: Literal["overlapping"] = "overlapping"
    overlap: tuple[Overlap, Overlap] = (0.2, 0.8)
    """Share of a crop's voxels that the other has too, drawn from here to there, before the views' own changes."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.overlap[0] > self.overlap[1]:
            raise ValueError("overlap: the second must not be below the first")
        return self

    def partner(self, place: Place, rows: Rows, patch_size: int, rng: np.random.Generator) -> Place:
        """A crop that is shifted along all three axes by parts that are drawn at random."""
        share, parts = rng.uniform(*self.overlap), rng.dirichlet([1, 1, 1])
        shift = np.rint(patch_size * (1 - share**parts)).astype(int) * rng.choice([-1, 1], 3)
        shape = np.array(rows.centres.volumes[place.scan].shape)
        outside = (place.centre + shift < 0) | (place.centre + shift >= shape)
        moved = place.centre + np.where(outside, -shift, shift)
        return Place(place.scan, moved.clip(0, shape - 1))


class NeighbouringCrops(Section):
    """Two crops of one scan that lie side by side."""

    name: Literal["neighbouring"] = "neighbouring"
    distance: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.5)
    """Between the centres along the axis where they are farthest apart, in sides of a crop; from 1 none is shared."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.distance[0] > self.distance[1]:
            raise ValueError("distance: the second must not be below the first")
        return self

    def partner(self, place: Place, rows: Rows, patch_size: int, rng: np.random.Generator) -> Place:
        """A foreground voxel in the wanted distance, else the one that comes nearest to it."""
        voxels = rows.centres.candidates(place.scan).foreground.astype(int)
        sides = np.abs(voxels - place.centre).max(axis=1) / patch_size
        off = np.maximum(self.distance[0] - sides, sides - self.distance[1]).clip(0)
        return Place(place.scan, voxels[rng.choice(np.flatnonzero(off == off.min()))])


class SameAnatomy(Section):
    """The same position in another subject. Only for scans that were registered: their world coordinates must agree."""

    name: Literal["same_anatomy"] = "same_anatomy"

    def partners(self, places: Sequence[Place], rows: Rows, rng: np.random.Generator) -> list[Place]:
        """Crops of other subjects at the same world positions, of those first that the batch shows least.

        With twice as many subjects as places, and one place of each, no subject is shown twice.
        """
        own = rows.subject_of[[place.scan for place in places]]
        num_shown = np.bincount(own, minlength=len(rows.scans_of))
        waiting = np.lexsort([rng.permutation(len(num_shown)), num_shown]).tolist()
        found = []
        for place, subject in zip(places, own, strict=True):
            partner = place
            for other in [other for other in waiting[: _TRIES + 1] if other != subject]:
                waiting.remove(other)
                waiting.append(other)
                scans = rng.permutation(rows.scans_of[other]).tolist()
                if there := next(filter(None, (rows.same_position(place, scan) for scan in scans)), None):
                    partner = there
                    break  # else another: not every scan reaches everywhere
            found.append(partner)
        return found


class SameSubject(Section):
    """The same subject at another time."""

    name: Literal["same_subject"] = "same_subject"
    position: Literal["world", "anywhere"] = "world"
    """`world`: the same world position, for sessions that are registered or lie alike; `anywhere` on the foreground."""

    def partner(self, place: Place, rows: Rows, patch_size: int, rng: np.random.Generator) -> Place:
        """A crop of another session of the same subject."""
        own = rows.sessions[place.scan]
        others = [scan for scan in rows.scans_of[rows.subject_of[place.scan]] if rows.sessions[scan] not in ("", own)]
        if not others or own == "":
            return place
        scan = int(rng.choice(others))
        if self.position == "world":
            return rows.same_position(place, scan) or place
        return Place(scan, rng.choice(rows.centres.candidates(scan).foreground).astype(int))


PairConfig = Annotated[
    SameCrop | OverlappingCrops | NeighbouringCrops | SameAnatomy | SameSubject, Field(discriminator="name")
]


def check_pairs(config: PairConfig, rows: Rows) -> None:
    """Refuses a policy that could never find a partner.

    Raises:
        ConfigError: One subject only for `same_anatomy`, or no subject with two sessions for `same_subject`.
    """
    if isinstance(config, SameAnatomy) and len(rows.scans_of) < 2:
        raise ConfigError("pairs.name: same_anatomy needs scans of at least two subjects; take another policy")
    if isinstance(config, SameSubject):
        times = [{rows.sessions[scan] for scan in scans} - {""} for scans in rows.scans_of]
        if max(map(len, times)) < 2:
            raise ConfigError(
                "pairs.name: same_subject needs a subject with two sessions, and the manifest's column session shows "
                "none; take another policy"
            )


def overlap_shares(first: np.ndarray, second: np.ndarray, patch_size: int) -> np.ndarray:
    """Share of each first crop's voxels that lie in the second one, (B,) float32.

    Args:
        first: (B, 3, 4), voxel of the crop to voxel of the scan, as in `ViewParameters.matrices` with the centre added.
        second: Of the other crop of each pair, from the same scan.
        patch_size: Voxels along each side of both.
    """
    count = np.zeros(len(first), np.int64)
    between = np.linalg.solve(second[:, :, :3].astype(float), first.astype(float))
    between[:, :, 3] -= np.linalg.solve(second[:, :, :3].astype(float), second[:, :, 3:].astype(float))[:, :, 0]
    _count_inside(between, patch_size, count)
    return (count / patch_size**3).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _count_inside(between, size, count):
    """Along each row of voxels the other crop is an interval, so a crop costs size**2 steps and not size**3."""
    for pair in range(len(between)):
        matrix = between[pair]
        for i in range(size):
            for j in range(size):
                first, last = 0.0, size - 1.0
                for axis in range(3):
                    start = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
                    slope = matrix[axis, 2]
                    low, high = -0.5 - start, size - 0.5 - start
                    if abs(slope) < 1e-9:
                        if low > 0 or high <= 0:
                            last = -1.0
                    elif slope > 0:
                        first, last = max(first, low / slope), min(last, high / slope)
                    else:
                        first, last = max(first, high / slope), min(last, low / slope)
                count[pair] += max(0, np.floor(last) - np.ceil(first) + 1)
