"""From places and parameters to views: one read of the store for all views of a sample that lie close together."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product

import numpy as np

from toolkit.scans.pairs import Place
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import ViewParameters, apply_parameters

WASTE = 1.25
"""Two boxes are read as one if it holds no more than so many times the voxels of both."""
MAX_KEPT_BYTES = 64 * 2**20
"""Scans that take less memory all together are kept decompressed by each process that renders."""


@dataclass(frozen=True)
class DrawnView:
    """One view number of B samples.

    Attributes:
        places: What each shows.
        parameters: How, one row a sample.
    """

    places: Sequence[Place]
    parameters: ViewParameters

    @property
    def matrices(self) -> np.ndarray:
        """(B, 3, 4), voxel of the view to voxel of the scan."""
        matrices = self.parameters.matrices.astype(np.float64)
        matrices[:, :, 3] += [place.centre for place in self.places]
        return matrices


class Renderer:
    """Cuts out and transforms views. A view has the same bits whatever is rendered beside it, by any number of threads.

    Scans that are small together, as the demo's, are kept decompressed; of others each sample's part is read.

    Args:
        volumes: The scans.
        patch_size: Voxels along each side.
        num_threads: Threads that share the samples.
    """

    def __init__(self, volumes: Sequence[StoredVolume], patch_size: int, num_threads: int = 1) -> None:
        self.volumes, self.patch_size, self.num_threads = volumes, patch_size, num_threads
        self._whole: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_whole": {}}  # another process reads them itself

    @cached_property
    def keeps_whole_scans(self) -> bool:
        """Whether all scans together are small enough to be kept."""
        num_bytes = 0
        for volume in self.volumes:
            num_bytes += 2 * volume.num_channels * math.prod(volume.shape)
            if num_bytes > MAX_KEPT_BYTES:
                return False
        return True

    def render(self, drawn: Sequence[DrawnView], only: int | None = None) -> list[np.ndarray]:
        """The views of B samples.

        Args:
            drawn: All views of the samples; what is read for a sample depends on all of them.
            only: The number of the one view that is wanted; by default all.

        Returns:
            For each wanted view (B, C, patch_size, patch_size, patch_size) float32.
        """
        wanted = range(len(drawn)) if only is None else [only]
        places = drawn[0].places
        shape = (len(places), self.volumes[places[0].scan].num_channels, *(self.patch_size,) * 3)
        out = {view: np.empty(shape, np.float32) for view in wanted}
        if self.keeps_whole_scans:
            for view in wanted:
                self._render_from_whole(drawn[view], out[view])
        else:
            self._render_from_crops(drawn, out)
        return list(out.values())

    def _render_from_whole(self, drawn: DrawnView, out: np.ndarray) -> None:
        scans = np.array([place.scan for place in drawn.places])
        centres = np.array([place.centre for place in drawn.places])
        for scan in np.unique(scans).tolist():
            if scan not in self._whole:
                self._whole[scan] = self.volumes[scan].crop((0, 0, 0), self.volumes[scan].shape)
            rows = np.flatnonzero(scans == scan)
            out[rows] = self._apply(scan, self._whole[scan], centres[rows], drawn.parameters, rows, self.num_threads)

    def _render_from_crops(self, drawn: Sequence[DrawnView], out: dict[int, np.ndarray]) -> None:
        boxes = [reach(view.matrices, self.patch_size) for view in drawn]

        def render_sample(row: int) -> None:
            scans = [view.places[row].scan for view in drawn]
            for views in reads(scans, [(low[row], high[row]) for low, high in boxes]):
                if out.keys().isdisjoint(views):
                    continue
                low = np.min([boxes[view][0][row] for view in views], axis=0)
                high = np.max([boxes[view][1][row] for view in views], axis=0)
                source = self.volumes[scans[views[0]]].crop(low.tolist(), (high - low).tolist())
                for view in out.keys() & views:
                    centres = (drawn[view].places[row].centre - low)[None]
                    parameters, rows = drawn[view].parameters, np.array([row])
                    out[view][row] = self._apply(scans[view], source, centres, parameters, rows, 1)[0]

        if self.num_threads == 1:
            for row in range(len(drawn[0].places)):
                render_sample(row)
        else:
            with ThreadPoolExecutor(self.num_threads) as pool:
                list(pool.map(render_sample, range(len(drawn[0].places))))

    def _apply(
        self,
        scan: int,
        source: np.ndarray,
        centres: np.ndarray,
        parameters: ViewParameters,
        rows: np.ndarray,
        num_threads: int,
    ) -> np.ndarray:
        scaling = {"scale": self.volumes[scan].scale, "offset": self.volumes[scan].offset, "num_threads": num_threads}
        return apply_parameters(source, centres, joined_parameters([parameters], rows), self.patch_size, **scaling)


def reach(matrices: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """First voxel of the scan that each view needs, and the one after the last: (B, 3) int each."""
    corners = np.array([[*corner, 1] for corner in product((0, patch_size - 1), repeat=3)]).T
    points = matrices @ corners
    return np.floor(points.min(axis=2)).astype(int), np.floor(points.max(axis=2)).astype(int) + 2


def reads(scans: Sequence[int], boxes: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[list[int]]:
    """Which views of a sample come from one read: those of one scan whose boxes together hold little else."""
    groups: list[list[int]] = []
    for view, (low, high) in enumerate(boxes):
        for group in groups:
            if scans[group[0]] != scans[view]:
                continue
            lows, highs = zip(*(boxes[member] for member in [*group, view]), strict=True)
            apart = sum(np.prod(high - low) for low, high in zip(lows, highs, strict=True))
            if np.prod(np.max(highs, axis=0) - np.min(lows, axis=0)) <= WASTE * apart:
                group.append(view)
                break
        else:
            groups.append([view])
    return groups


def joined_parameters(parts: Sequence[ViewParameters], order: np.ndarray) -> ViewParameters:
    """The rows of several draws, one after the other, in another order."""
    names = [field.name for field in fields(ViewParameters)]
    return ViewParameters(**{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names})
