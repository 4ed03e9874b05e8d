"""From places and parameters to views: one read of the store for the views of a sample that lie close together."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product

import numpy as np

from toolkit.scans.pairs import Place
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import ViewParameters, apply_parameters, source_box

WASTE = 1.25
"""Boxes are read as one if it holds no more than so many times the voxels of all."""
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
        """(B, 3, 4), voxel of the view to voxel of the scan; without elastic displacements."""
        matrices = self.parameters.matrices.astype(np.float64)
        matrices[:, :, 3] += [place.centre for place in self.places]
        return matrices

    def boxes(self, patch_size: int) -> np.ndarray:
        """(B, 2, 3) int64, the first voxel of the scan that each view shows and the one after the last."""
        corners = np.array([[*corner, 1] for corner in product((0, patch_size - 1), repeat=3)]).T
        points = self.matrices @ corners
        return np.stack([np.floor(points.min(axis=2)), np.ceil(points.max(axis=2)) + 1], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Read:
    """A box of a scan that is read at once.

    Attributes:
        scan: Which.
        sample: The sample that it is for.
        views: Which of the sample's views it is for.
        start: Its first voxel (3,); may lie outside.
        size: Voxels along each axis (3,).
    """

    scan: int
    sample: int
    views: list[int]
    start: np.ndarray
    size: np.ndarray


class Renderer:
    """Cuts out and transforms views. A view has the same bits however it is read and whatever is rendered beside it.

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

    def render(self, drawn: Sequence[DrawnView]) -> list[np.ndarray]:
        """Renders views of B samples.

        Args:
            drawn: The views.

        Returns:
            For each view (B, C, patch_size, patch_size, patch_size) float32.
        """
        scans, centres, parameters = stacked(drawn)
        out = np.empty((*scans.shape, self.volumes[0].num_channels, *(self.patch_size,) * 3), np.float32)
        if self.keeps_whole_scans:
            self._render_from_whole(scans.ravel(), centres.reshape(-1, 3), parameters, out.reshape(-1, *out.shape[2:]))
        else:
            self._render_from_crops(scans, centres, parameters, out)
        return list(out)

    def reads(self, scans: np.ndarray, centres: np.ndarray, parameters: ViewParameters) -> list[Read]:
        """The boxes that hold all voxels of views; arguments as `stacked` gives them."""
        low, high = (ends.reshape(centres.shape) + centres for ends in source_box(parameters, self.patch_size))
        found = []
        for sample in range(scans.shape[1]):
            for views in read_together(scans[:, sample], low[:, sample], high[:, sample]):
                start, end = low[views, sample].min(axis=0), high[views, sample].max(axis=0)
                found.append(Read(int(scans[views[0], sample]), sample, views, start, end - start))
        return found

    def crop(self, scan: int, start: np.ndarray, size: np.ndarray) -> np.ndarray:
        """A box as `StoredVolume.crop` gives it, from memory where scans are kept."""
        volume = self.volumes[scan]
        if not self.keeps_whole_scans:
            return volume.crop(start.tolist(), size.tolist())
        low, high = np.clip(start, 0, volume.shape), np.clip(start + size, 0, volume.shape)
        box = np.full((volume.num_channels, *size), volume.zero, np.int16)
        inside, there = (tuple(map(slice, low - origin, high - origin)) for origin in (start, 0))
        box[:, *inside] = self._whole_scan(scan)[:, *there]
        return box

    def each(self, do: Callable[[Read], None], found: Sequence[Read]) -> None:
        """Shares reads between the threads."""
        if self.num_threads == 1:
            for read in found:
                do(read)
        else:
            with ThreadPoolExecutor(self.num_threads) as pool:
                list(pool.map(do, found))

    def _render_from_whole(
        self, scans: np.ndarray, centres: np.ndarray, parameters: ViewParameters, out: np.ndarray
    ) -> None:
        for scan in np.unique(scans).tolist():
            rows = np.flatnonzero(scans == scan)
            out[rows] = self._apply(scan, self._whole_scan(scan), centres[rows], parameters[rows], self.num_threads)

    def _whole_scan(self, scan: int) -> np.ndarray:
        if scan not in self._whole:
            self._whole[scan] = self.volumes[scan].crop((0, 0, 0), self.volumes[scan].shape)
        return self._whole[scan]

    def _render_from_crops(
        self, scans: np.ndarray, centres: np.ndarray, parameters: ViewParameters, out: np.ndarray
    ) -> None:
        def render_read(read: Read) -> None:
            rows = np.array(read.views) * scans.shape[1] + read.sample
            source, places = self.crop(read.scan, read.start, read.size), centres[read.views, read.sample] - read.start
            out[read.views, read.sample] = self._apply(read.scan, source, places, parameters[rows], 1)

        self.each(render_read, self.reads(scans, centres, parameters))

    def _apply(
        self, scan: int, source: np.ndarray, centres: np.ndarray, parameters: ViewParameters, num_threads: int
    ) -> np.ndarray:
        scaling = {"scale": self.volumes[scan].scale, "offset": self.volumes[scan].offset, "num_threads": num_threads}
        return apply_parameters(source, centres, parameters, self.patch_size, **scaling)


def read_together(scans: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[list[int]]:
    """Which views of a sample come from one read: those of one scan whose boxes together hold little else.

    Args:
        scans: Of each view, (V,).
        low: First voxel of each view's box, (V, 3).
        high: The one after the last.
    """
    groups: list[list[int]] = []
    sizes = (high - low).prod(axis=1)
    for view in range(len(scans)):
        for group in groups:
            both = [*group, view]
            together = (high[both].max(axis=0) - low[both].min(axis=0)).prod()
            if scans[group[0]] == scans[view] and together <= WASTE * sizes[both].sum():
                group.append(view)
                break
        else:
            groups.append([view])
    return groups


def joined_parameters(parts: Sequence[ViewParameters]) -> ViewParameters:
    """The rows of several draws, one after the other."""
    names = [field.name for field in fields(ViewParameters)]
    return ViewParameters(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def stacked(drawn: Sequence[DrawnView]) -> tuple[np.ndarray, np.ndarray, ViewParameters]:
    """Scans (V, B) and centres (V, B, 3) of V views of B samples, and their parameters, view by view (V * B)."""
    scans = np.array([[place.scan for place in view.places] for view in drawn])
    centres = np.array([[place.centre for place in view.places] for view in drawn])
    return scans, centres, joined_parameters([view.parameters for view in drawn])
