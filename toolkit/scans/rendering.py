"""From places and parameters to views: one read of the store for all views of a sample that lie close together."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import product

import numpy as np

from toolkit.scans.pairs import Place
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import ViewParameters, apply_parameters

WASTE = 1.25
"""Two boxes are read as one if it holds no more than so many times the voxels of both."""


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


def render(
    volumes: Sequence[StoredVolume],
    drawn: Sequence[DrawnView],
    patch_size: int,
    *,
    only: Sequence[int] | None = None,
    num_threads: int = 1,
) -> np.ndarray:
    """Cuts out and transforms the views of B samples.

    A view has the same bits whatever is rendered beside it: what is read for a sample depends on all its views, also
    on those that are not wanted.

    Args:
        volumes: The scans.
        drawn: All views.
        patch_size: Voxels along each side.
        only: Numbers of the views that are wanted; by default all.
        num_threads: Threads that share the samples.

    Returns:
        (views, B, C, patch_size, patch_size, patch_size) float32.
    """
    wanted = list(range(len(drawn))) if only is None else list(only)
    num_samples = len(drawn[0].places)
    sides = (patch_size,) * 3
    out = np.empty((len(wanted), num_samples, volumes[drawn[0].places[0].scan].num_channels, *sides), np.float32)
    boxes = [reach(view.matrices, patch_size) for view in drawn]

    def render_sample(row: int) -> None:
        scans = [view.places[row].scan for view in drawn]
        for views in reads(scans, [(low[row], high[row]) for low, high in boxes]):
            if not set(views) & set(wanted):
                continue
            volume = volumes[scans[views[0]]]
            low = np.min([boxes[view][0][row] for view in views], axis=0)
            high = np.max([boxes[view][1][row] for view in views], axis=0)
            source = volume.crop(low.tolist(), (high - low).tolist())
            for view in set(views) & set(wanted):
                out[wanted.index(view), row] = apply_parameters(
                    source,
                    (drawn[view].places[row].centre - low)[None],
                    _row(drawn[view].parameters, row),
                    patch_size,
                    scale=volume.scale,
                    offset=volume.offset,
                )[0]

    if num_threads == 1:
        for row in range(num_samples):
            render_sample(row)
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(render_sample, range(num_samples)))
    return out


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


def _row(parameters: ViewParameters, row: int) -> ViewParameters:
    names = [field.name for field in fields(ViewParameters)]
    return ViewParameters(**{name: getattr(parameters, name)[row : row + 1] for name in names})
