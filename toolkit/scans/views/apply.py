"""The deterministic twin on the CPU: parameters in, views out, in compiled passes over one patch at a time.

Each patch depends on its own parameters only, so the result has the same bits for any number of threads. The kernels
run without the interpreter lock in a plain thread pool: no OpenMP beside torch's, and nothing that breaks after a fork.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toolkit.scans.views.boxes import source_box, spline_weights
from toolkit.scans.views.interpolation import interpolate_views
from toolkit.scans.views.kspace import filter_views
from toolkit.scans.views.masks import mask_views
from toolkit.scans.views.noise import add_noise, endless_bank
from toolkit.scans.views.parameters import ViewParameters
from toolkit.scans.views.shading import shade_views
from toolkit.scans.views.smoothing import smooth_views

_CACHE_BYTES = 2**18
"""Views are made in portions of this size, which stay in the processor's cache from one kernel to the next."""


def apply_parameters(
    source: np.ndarray,
    centres: np.ndarray,
    parameters: ViewParameters,
    patch_size: int,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    num_threads: int = 1,
) -> np.ndarray:
    """Cuts out and transforms one patch a view, in one interpolation.

    Args:
        source: Volume (C, X, Y, Z) of any real dtype; intensity = value * scale + offset, normalised to 0-1, and 0
            outside. A crop of `source_box` gives the same bits as the whole scan.
        centres: (V, 3) voxel positions in `source`.
        parameters: From `sample_parameters`.
        patch_size: Voxels along each side, as the parameters were drawn for.
        scale: See `source`.
        offset: See `source`.
        num_threads: Threads to use; the result is the same for any number.

    Returns:
        (V, C, patch_size, patch_size, patch_size) float32.
    """
    source = np.ascontiguousarray(source)
    whole = np.floor(np.asarray(centres, np.float64))
    low, high = source_box(parameters, patch_size)
    matrices = parameters.matrices.astype(np.float64)
    matrices[:, :, 3] += centres - whole - low  # small numbers, whatever the place in the scan
    matrices = matrices.astype(np.float32)
    start, extent = whole.astype(np.int64) + low, high - low
    spline = spline_weights(patch_size, max(parameters.displacements.shape[-1], 4))
    zero, bank = _stored_zero(source.dtype, scale, offset), endless_bank(patch_size)
    out = np.empty((len(parameters), source.shape[0], patch_size, patch_size, patch_size), np.float32)

    def render(part: slice) -> None:
        views, p = out[part], parameters[part]
        boxes = start[part], extent[part], matrices[part]
        interpolate_views(source, *boxes, p.displacements, *spline, zero, np.float32(scale), views)
        smooth_views(views, p.blur_sigma, p.low_resolution)
        shade_views(views, p.bias, p.gamma, p.inverted, p.contrast, p.brightness)
        if p.filters.size:
            filter_views(views, p.filter_axis, p.filters)
        add_noise(views, p.noise, p.rician, p.noise_offsets, bank)
        if p.outer_mask.size or p.inner_mask.size or p.cutout.size:
            mask_views(views, p.outer_mask, p.inner_mask, p.cutout, p.mask_value)

    at_once = max(1, _CACHE_BYTES // out[:1].nbytes)
    parts = [slice(first, first + at_once) for first in range(0, len(out), at_once)]
    if min(num_threads, len(parts)) == 1:
        for part in parts:
            render(part)
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(render, parts))
    return out


def _stored_zero(dtype: np.dtype, scale: float, offset: float) -> np.generic:
    """The stored value of intensity 0, in the dtype of the stored values."""
    zero = -offset / scale
    stored: np.generic = dtype.type(round(zero) if np.issubdtype(dtype, np.integer) else zero)
    return stored
