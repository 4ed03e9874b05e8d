"""Windows that are masked, or that alone stay: cut-out and Models Genesis' two masks."""

# mypy: allow-untyped-defs

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def mask_views(views, outer, inner, cutout, value):
    """Fills windows of views, in place.

    Args:
        views: (V, C, P, P, P) float32.
        outer: (V, N, 2, 3) windows whose outside gets `value`.
        inner: (V, N, 2, 3) windows that get `value`.
        cutout: (V, N, 2, 3) windows that get 0.
        value: (V,) float32.
    """
    for v in range(views.shape[0]):
        for patch in views[v]:
            _fill_outside(patch, outer[v], value[v])
            _fill(patch, inner[v], value[v])
            _fill(patch, cutout[v], np.float32(0))


@numba.njit(nogil=True, cache=True)
def _fill(patch, windows, value):
    """Gives `value` to the windows (N, 2, 3) of (I, J, K), in place."""
    for window in windows:
        (i0, j0, k0), (i1, j1, k1) = window
        patch[i0:i1, j0:j1, k0:k1] = value


@numba.njit(nogil=True, cache=True)
def _fill_outside(patch, windows, value):
    """Gives `value` to all of (I, J, K) that lies in none of the windows (N, 2, 3), in place; none, no change."""
    if not windows.any():
        return
    kept = np.zeros(patch.shape, np.bool_)
    for window in windows:
        kept[window[0, 0] : window[1, 0], window[0, 1] : window[1, 1], window[0, 2] : window[1, 2]] = True
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            for k in range(patch.shape[2]):
                if not kept[i, j, k]:
                    patch[i, j, k] = value
