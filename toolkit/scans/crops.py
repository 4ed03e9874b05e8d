"""Where crops are centred: on the foreground, on labelled voxels or points, or anywhere in the scan."""

import contextlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from scipy import ndimage

from toolkit.config import Section
from toolkit.errors import ConfigError, DataError
from toolkit.files import write_atomically
from toolkit.scans.labels import Points
from toolkit.scans.store import StoredVolume

Share = Annotated[float, Field(ge=0, le=1)]

NUM_KEPT = 8192
"""Foreground voxels of a scan that crops are centred on, and labelled ones: so many tell as much as all of them."""
MAX_CACHED = 1024
"""Scans whose voxels a process keeps at hand, about 50 kB each."""


class CropConfig(Section):
    """Which part of the crops is centred where; what the two shares leave lies on the foreground, any voxel alike."""

    label_share: Share = 0.0
    """On labelled voxels or points, each class alike. A scan without any gives foreground."""
    random_share: Share = 0.0
    """Anywhere in the scan, air included."""
    points: Path | None = None
    """A table of labelled points in the scans of a manifest, see `read_points`: `subject`, `x_mm` ..., `label`."""

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Self:
        if self.label_share + self.random_share > 1:
            raise ValueError("label_share and random_share: together above 1")
        return self


@dataclass(frozen=True)
class Candidates:
    """Voxels of a scan to centre crops on.

    Attributes:
        foreground: At most NUM_KEPT of them, in no order (N, 3) int16.
        labelled: At most NUM_KEPT, about as many of each class (M, 3) int16.
        classes: Of `labelled`, the label map's values above 0 (M,) int16.
    """

    foreground: np.ndarray
    labelled: np.ndarray
    classes: np.ndarray


class Centres:
    """The centre of each crop, a pure function of (seed, scan, crop number).

    A scan is looked through when its first crop is asked for, by whichever process comes first; what was found lies in
    the store beside the scan, for all processes and runs.

    Args:
        volumes: The scans.
        config: Shares.
        seed: Everything random follows from it.
        points: Labelled places of each scan, where they are known; each label is a class.

    Raises:
        ConfigError: Crops on labels are asked for, and no scan has any.
    """

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        config: CropConfig,
        seed: int,
        points: Sequence[Points] | None = None,
    ) -> None:
        self.volumes, self.config, self.seed, self.points = volumes, config, seed, points
        labelled = any(volume.has_labels for volume in volumes) if config.label_share else False
        if config.label_share and not labelled and not any(len(found.labels) for found in points or ()):
            raise ConfigError(
                "crops.label_share: no scan has a label map or points; build the store with them, or leave it at 0"
            )
        self._cached: dict[int, Candidates] = {}

    def centre(self, scan: int, crop: int) -> np.ndarray:
        """The centre of a scan's crop, voxel indices (3,).

        Raises:
            DataError: The scan has no foreground.
        """
        rng = np.random.default_rng([self.seed, 3, scan, crop])
        draw, found = rng.random(), self.candidates(scan)
        if draw < self.config.label_share and len(found.labelled):
            of_class = found.labelled[found.classes == rng.choice(np.unique(found.classes))]
            return of_class[rng.integers(len(of_class))].astype(int)
        if 0 <= draw - self.config.label_share < self.config.random_share:
            return rng.integers(self.volumes[scan].shape)
        return found.foreground[rng.integers(len(found.foreground))].astype(int)

    def candidates(self, scan: int) -> Candidates:
        """A scan's voxels to centre crops on.

        Raises:
            DataError: The scan has no foreground.
        """
        if scan not in self._cached:
            if len(self._cached) >= MAX_CACHED:
                del self._cached[next(iter(self._cached))]  # the first that came
            found = stored_candidates(self.volumes[scan])
            if not len(found.foreground):
                key = self.volumes[scan].path.with_suffix("")
                raise DataError(f"scan {scan + 1} has no foreground; `fewlabel data show {key} --at 0 0 0` draws it")
            self._cached[scan] = self._with_points(scan, found)
        return self._cached[scan]

    def _with_points(self, scan: int, found: Candidates) -> Candidates:
        points = self.points[scan] if self.points else None
        if points is None or not len(points.labels):
            return found
        volume = self.volumes[scan]
        voxels = np.rint(points.voxels(volume.affine)).astype(int)
        inside = ((voxels >= 0) & (voxels < volume.shape)).all(axis=1)
        classes = found.classes.max(initial=0) + 1 + np.unique(points.labels, return_inverse=True)[1]
        return Candidates(
            found.foreground,
            np.concatenate([found.labelled, voxels[inside].astype(np.int16)]),
            np.append(found.classes, classes[inside].astype(np.int16)),
        )


def stored_candidates(volume: StoredVolume) -> Candidates:
    """What lies beside the scan in its store; found and put there by the first who asks."""
    path = Path(volume.path).with_suffix(".centres-1.npz")
    try:
        with np.load(path, allow_pickle=False) as parts:
            return Candidates(parts["foreground"], parts["labelled"], parts["classes"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        found = find_candidates(volume)
    file = io.BytesIO()
    np.savez(file, **dict(zip(("foreground", "labelled", "classes"), astuple(found), strict=True)))
    with contextlib.suppress(OSError):  # somebody else's store, or a full disk: the next process looks again
        write_atomically(path, file.getvalue())
    return found


def find_candidates(volume: StoredVolume) -> Candidates:
    """Looks a whole scan through; the choice among its voxels is always the same."""
    rng = np.random.default_rng([0])
    foreground = _some(volume.foreground(), NUM_KEPT, rng)
    labelled, classes = np.empty(0, np.intp), np.empty(0, np.int16)
    if volume.has_labels:
        labels = volume.labels((0, 0, 0), volume.shape)
        boxes = {value: box for value, box in enumerate(ndimage.find_objects(labels), start=1) if box}
        for value, (planes, _, _) in boxes.items():
            places = _some(labels[planes] == value, max(1, NUM_KEPT // len(boxes)), rng)
            labelled = np.append(labelled, places + planes.start * labels[0].size)
        classes = labels.ravel()[labelled]
    return Candidates(_voxels(foreground, volume), _voxels(labelled, volume), classes)


def _some(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Flat places where `mask` (I, J, K) is set, by their ranks: a list of all of them takes eight times the mask."""
    counts = np.array([np.count_nonzero(plane) for plane in mask])
    ends = np.cumsum(counts)
    ranks = rng.choice(ends[-1], min(count, ends[-1]), replace=False)
    planes = np.searchsorted(ends, ranks, side="right")
    places = np.empty(len(ranks), np.intp)
    for plane in np.unique(planes):
        mine = planes == plane
        inside = np.flatnonzero(mask[plane])[ranks[mine] - (ends[plane] - counts[plane])]
        places[mine] = plane * mask[plane].size + inside
    return places


def _voxels(places: np.ndarray, volume: StoredVolume) -> np.ndarray:
    """Places in the flat array to indices (N, 3), of the few that were chosen."""
    return np.stack(np.unravel_index(places, volume.shape), axis=1).astype(np.int16)
