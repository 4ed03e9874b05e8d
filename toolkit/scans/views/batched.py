"""The deterministic twin on a GPU: all views of a batch in one pass of torch operations, wherever the tensors lie.

For the same parameters and the same noise bank it gives the views of `apply_parameters` but for rounding, which may
also move a few voxels in ten thousand over the border of the foreground. It asks no tensor for its values, so it never
waits for the device: what a batch lacks shows in an array with a side of 0. No sum depends on the order of threads: the
same batch gives the same bits on the same device.

Legend: V views, C channels, P side of a view, X Y Z crop, N windows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.scans.views.boxes import spline_weights
from toolkit.scans.views.config import MAX_BLUR_SIGMA
from toolkit.scans.views.noise import NOISE_BANK_SIZE, noise_bank

_RADIUS = int(3 * MAX_BLUR_SIGMA)
_HAIR = 2.0**-22
"""Rounding of a place, as a share of the crop's side."""
_banks: dict[torch.device, Tensor] = {}


def render_batch(
    crops: Tensor,
    centres: Tensor,
    parameters: dict[str, Tensor],
    patch_size: int,
    *,
    scale: Tensor | float = 1.0,
    offset: Tensor | float = 0.0,
) -> Tensor:
    """Views of crops, one each.

    Args:
        crops: (V, C, X, Y, Z) of any real dtype, with the voxels of `source_box`, as `apply_parameters` takes them; all
            of one size: cut them by the largest box, or fill them up with anything finite.
        centres: (V, 3) where each view's centre lies in its crop, voxels.
        parameters: `ViewParameters.tensors()`, on the crops' device.
        patch_size: P, as the parameters were drawn for.
        scale: Intensity = value * scale + offset; one number, or one a view (V,).
        offset: See `scale`.

    Returns:
        (V, C, P, P, P) float32 on the crops' device.
    """
    p = parameters
    shape = (-1, 1, 1, 1, 1)
    scale, offset = (
        torch.as_tensor(x, dtype=torch.float32, device=crops.device).reshape(shape) for x in (scale, offset)
    )
    # Background becomes a whole 0 before anything is rounded, as in the kernel: else brightness would show it.
    zero = -offset / scale if crops.is_floating_point() else (-offset / scale).round()
    places_V3PPP = _places(p["matrices"], p["displacements"], centres, patch_size)
    views = _interpolated(crops - zero, places_V3PPP) * scale
    # Places are off by some millionths of a voxel: where a view's voxels lie on the scan's, that much of a neighbour
    # would make background foreground.
    views = F.hardshrink(views, _HAIR * max(crops.shape[2:]))
    views = _along_each_axis(views, _smoothing(p["blur_sigma"], p["low_resolution"], patch_size))
    views = _shaded(views, p)
    if p["filters"].numel():
        views = torch.where((p["filter_axis"] >= 0).reshape(shape), _filtered(views, p), views)
    views = _noisy(views, p)
    return _masked(views, p)


def _places(matrices: Tensor, displacements: Tensor, centres: Tensor, size: int) -> Tensor:
    """Places in the crop of each voxel of each view, (V, 3, P, P, P)."""
    line = torch.arange(size, dtype=torch.float32, device=matrices.device)
    i, j, k = (matrices[:, :, axis, None] * line for axis in range(3))
    start = matrices[:, :, 3] + centres.float()
    places = i[:, :, :, None, None] + j[:, :, None, :, None] + k[:, :, None, None, :] + start[:, :, None, None, None]
    if displacements.numel():
        cells, weights = map(torch.from_numpy, spline_weights(size, displacements.shape[-1]))
        taps = torch.zeros(size, displacements.shape[-1]).scatter_(1, cells[:, None] + torch.arange(4), weights)
        taps = taps.to(matrices.device)
        places += torch.einsum("vxabc,ia,jb,kc->vxijk", displacements, taps, taps, taps)
    return places


def _interpolated(crops: Tensor, places_V3PPP: Tensor) -> Tensor:
    """Trilinear, 0 outside."""
    sides = torch.tensor(crops.shape[2:], dtype=torch.float32, device=crops.device) - 1
    grid = places_V3PPP.movedim(1, -1) * (2 / sides) - 1
    return F.grid_sample(crops, grid.flip(-1), padding_mode="zeros", align_corners=True)


def _along_each_axis(views: Tensor, matrices_V3PP: Tensor) -> Tensor:
    """Each view times a matrix along each of its axes."""
    v, c, size = views.shape[:3]
    for axis in range(3):
        lines = views.movedim(axis + 2, 1).reshape(v, size, -1)
        lines = torch.bmm(matrices_V3PP[:, axis], lines)
        views = lines.reshape(v, size, c, size, size).movedim(1, axis + 2)
    return views


def _smoothing(sigma: Tensor, low_resolution: Tensor, size: int) -> Tensor:
    """Blur and low resolution along a line as one matrix, (V, 3, P, P)."""
    taps = torch.arange(-_RADIUS, _RADIUS + 1, device=sigma.device)
    # Cut off at three deviations, as the kernel does. Without blur the middle weight is all.
    near = taps.abs() <= torch.ceil(3 * sigma[:, None])
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2) * near
    weights = F.pad(weights / weights.sum(dim=1, keepdim=True), (1, 1))
    line = torch.arange(size, device=sigma.device)
    steps = (line - line[:, None]).clamp(-_RADIUS - 1, _RADIUS + 1) + _RADIUS + 1
    # The border voxels repeat outwards: the first and the last column have the weights of all that lies beyond, too.
    later = torch.ones(weights.shape[1], weights.shape[1], device=sigma.device).triu()
    up_to, from_on = weights @ later, weights @ later.T
    blur = torch.where(line == size - 1, from_on[:, steps], weights[:, steps])
    blur = torch.where(line == 0, up_to[:, steps], blur)
    return _coarsening(low_resolution, size) @ blur[:, None]


def _coarsening(sizes: Tensor, size: int) -> Tensor:
    """Averages over `sizes` (V, 3) larger voxels and interpolates back, as matrices (V, 3, P, P)."""
    line = torch.arange(size, device=sizes.device)
    cells = sizes[..., None, None]
    first, last = line[:, None] * size // cells, -(-(line[:, None] + 1) * size // cells)
    within = (line >= first) & (line < last) & (line[:, None] < cells)
    down = within / (last - first)
    place = ((line[:, None] + 0.5) * cells / size - 0.5).clamp(min=0)
    below = place.floor().minimum(cells - 1)
    fraction = place - below
    above = (below + 1).minimum(cells - 1)
    up = (line == below) * (1 - fraction) + (line == above) * fraction
    return up @ down


def _shaded(views: Tensor, p: dict[str, Tensor]) -> Tensor:
    gamma, inverted, contrast, brightness = (
        p[name].reshape(-1, 1, 1, 1, 1) for name in ("gamma", "inverted", "contrast", "brightness")
    )
    place = torch.linspace(-1, 1, views.shape[2], device=views.device)
    fields = torch.exp(p["bias"][:, :3, None] * place + p["bias"][:, 3:, None] * place**2)
    field = fields[:, 0, :, None, None] * fields[:, 1, None, :, None] * fields[:, 2, None, None, :]
    value = (views * field[:, None]).clamp(0, 1)
    value = torch.where(inverted, 1 - value, value) ** gamma
    value = torch.where(inverted, 1 - value, value)
    value = (value * contrast + (0.5 - 0.5 * contrast + brightness)).clamp(min=0)
    return torch.where(views > 0, value, 0)


def _filtered(views: Tensor, p: dict[str, Tensor]) -> Tensor:
    size = views.shape[2]
    line = torch.arange(size, device=views.device)
    circulant = p["filters"][:, :, (line[:, None] - line) % size]  # (V, 2, P, P)
    here = p["filter_axis"][:, None] == torch.arange(3, device=views.device)
    one = torch.eye(size, device=views.device)
    real, imaginary = (
        _along_each_axis(views, torch.where(here[:, :, None, None], circulant[:, part, None], one)) for part in range(2)
    )
    return torch.sqrt(real**2 + imaginary**2)


def _noisy(views: Tensor, p: dict[str, Tensor]) -> Tensor:
    if views.device not in _banks:
        _banks[views.device] = torch.from_numpy(noise_bank()).to(views.device)
    bank = _banks[views.device]
    voxel = torch.arange(views[0].numel(), device=views.device)
    white, real, imaginary = (
        bank[(offset[:, None] + voxel) % NOISE_BANK_SIZE].reshape(views.shape) for offset in p["noise_offsets"].T
    )
    noise, rician = (p[name].reshape(-1, 1, 1, 1, 1) for name in ("noise", "rician"))
    views = views + noise * white
    return torch.where(rician > 0, torch.sqrt((views + rician * real) ** 2 + (rician * imaginary) ** 2), views)


def _masked(views: Tensor, p: dict[str, Tensor]) -> Tensor:
    value = p["mask_value"].reshape(-1, 1, 1, 1, 1)
    if p["outer_mask"].numel():
        has_any = (p["outer_mask"] != 0).flatten(1).any(dim=1).reshape(-1, 1, 1, 1, 1)
        views = torch.where(has_any & ~_inside(p["outer_mask"], views), value, views)
    if p["inner_mask"].numel():
        views = torch.where(_inside(p["inner_mask"], views), value, views)
    if p["cutout"].numel():
        views = torch.where(_inside(p["cutout"], views), 0, views)
    return views


def _inside(windows_VN23: Tensor, views: Tensor) -> Tensor:
    """Which voxels lie in any of a view's windows, (V, 1, P, P, P) bool."""
    line = torch.arange(views.shape[2], device=views.device)
    low, high = windows_VN23[:, :, 0, :, None], windows_VN23[:, :, 1, :, None]
    i, j, k = ((line >= low) & (line < high)).unbind(dim=2)  # (V, N, P) each
    return torch.einsum("vni,vnj,vnk->vijk", i.float(), j.float(), k.float())[:, None] > 0
