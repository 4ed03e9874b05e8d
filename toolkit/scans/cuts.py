"""Views that are made where the network is: the processes that prepare batches cut crops, the device renders them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.scans.rendering import DrawnView, Read, Renderer, stacked
from toolkit.scans.views import render_batch

VOXELS_AT_ONCE = 2**26
"""Of crops, in one pass: it takes about a GB."""


def cut(renderer: Renderer, drawn: Sequence[DrawnView]) -> dict[str, Tensor]:
    """Cuts out what V views of B samples are made of.

    Args:
        renderer: Of the scans.
        drawn: The views.

    Returns:
        `crops` (R, C, X, Y, Z) int16, as they are stored, smaller ones filled up; for each of the V * B views, one view
        number after the other, `sources` (its crop), `centres` (in the crop), `scale` and `offset` (of the intensities)
        and its parameters by name.
    """
    scans, centres, parameters = stacked(drawn)
    found = renderer.reads(scans, centres, parameters)
    sides = np.max([read.size for read in found], axis=0)
    crops = np.zeros((len(found), renderer.volumes[0].num_channels, *sides), np.int16)
    sources, starts = np.empty(scans.shape, np.int64), np.empty_like(centres)
    for number, read in enumerate(found):
        sources[read.views, read.sample], starts[read.views, read.sample] = number, read.start

    def fill(read: Read) -> None:
        crop = crops[sources[read.views[0], read.sample]]
        crop[:, *map(slice, read.size)] = renderer.crop(read.scan, read.start, read.size)

    renderer.each(fill, found)
    volumes = [renderer.volumes[scan] for scan in scans.ravel()]
    return {
        "crops": torch.from_numpy(crops),
        "sources": torch.from_numpy(sources.ravel()),
        "centres": torch.from_numpy((centres - starts).reshape(-1, 3)),
        "scale": torch.tensor([volume.scale for volume in volumes]),
        "offset": torch.tensor([volume.offset for volume in volumes]),
        **parameters.tensors(),
    }


def render_cuts(cuts: dict[str, Tensor], patch_size: int) -> Tensor:
    """Makes views of what `cut` gave, wherever it lies now.

    A device makes the same bits of the same cuts; other devices, or parts of a batch, agree with it but for rounding.

    Args:
        cuts: From `cut`.
        patch_size: As the views were drawn for.

    Returns:
        (V * B, C, patch_size, patch_size, patch_size) float32.
    """
    others = dict(cuts)
    crops, sources = others.pop("crops"), others.pop("sources")
    at_once, views = max(1, VOXELS_AT_ONCE // crops[0].numel()), []
    for rows in (slice(first, first + at_once) for first in range(0, len(sources), at_once)):
        part = {name: tensor[rows] for name, tensor in others.items()}
        centres, scale, offset = (part.pop(name) for name in ("centres", "scale", "offset"))
        views.append(render_batch(crops[sources[rows]], centres, part, patch_size, scale=scale, offset=offset))
    return torch.cat(views)
