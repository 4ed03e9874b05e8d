"""Blur and simulated low resolution: separable, one axis after the other. See `interpolation` on `fastmath`."""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def smooth_views(views, blur_sigma, low_resolution):
    """Blurs views (V, C, P, P, P) by (V,) deviations in voxels and takes resolution away, (V, 3), in place."""
    for v in range(views.shape[0]):
        for c in range(views.shape[1]):
            if blur_sigma[v] > 0:
                _blur(views[v, c], blur_sigma[v])
            if low_resolution[v].min() < views.shape[2]:
                _lower_resolution(views[v, c], low_resolution[v])


@numba.njit(nogil=True, cache=True)
def _gaussian_weights(sigma):
    """Weights of a Gaussian from its middle outwards to three deviations; with their mirror image they sum to 1."""
    weights = np.empty(math.ceil(3 * sigma) + 1, np.float32)
    total = 0.0
    for tap in range(len(weights)):
        weights[tap] = math.exp(-0.5 * (tap / sigma) ** 2)
        total += weights[tap] * (2 if tap else 1)
    return weights / np.float32(total)


@numba.njit(nogil=True, cache=True)
def _blur(patch, sigma):
    """Blurs (I, J, K) in place; the border voxels repeat outwards.

    Each plane is blurred along k and j while it lies in the cache; the planes wait in a ring for the sum along i. All
    planes have rows as long as the padded one's, so that a sum over a plane is one long loop; the rows' ends are waste.
    """
    weights = _gaussian_weights(np.float64(sigma))
    radius = len(weights) - 1
    ni, nj, nk = patch.shape
    pitch = nk + 2 * radius
    padded = np.empty((nj, pitch), np.float32)
    rows = np.zeros((nj + 2 * radius, pitch), np.float32)
    ring = np.empty((2 * radius + 1, nj * pitch), np.float32)
    sums = np.empty((nj, pitch), np.float32)
    along_k = rows.reshape(-1)[radius * pitch : (radius + nj) * pitch - 2 * radius]
    for i in range(ni + radius):
        if i < ni:
            for j in range(nj):
                padded[j, :radius] = patch[i, j, 0]
                padded[j, radius : radius + nk] = patch[i, j]
                padded[j, radius + nk :] = patch[i, j, nk - 1]
            _weighted_sum(padded.reshape(-1), 1, weights, along_k)
            rows[:radius] = rows[radius]
            rows[radius + nj :] = rows[radius + nj - 1]
            _weighted_sum(rows.reshape(-1), pitch, weights, ring[i % len(ring)])
        middle = i - radius
        if middle >= 0:
            _begin(ring[middle % len(ring)], weights[0], sums.reshape(-1))
            for tap in range(1, radius + 1):
                before, after = max(middle - tap, 0), min(middle + tap, ni - 1)
                _add(ring[before % len(ring)], ring[after % len(ring)], weights[tap], sums.reshape(-1))
            patch[middle] = sums[:, :nk]


@numba.njit(nogil=True, cache=True)
def _weighted_sum(source, step, weights, out):
    """Place n of `out` becomes the sum over places n to n + 2 radius steps of `source`."""
    radius, size = len(weights) - 1, len(out)
    _begin(source[radius * step : radius * step + size], weights[0], out)
    for tap in range(1, radius + 1):
        before, after = (radius - tap) * step, (radius + tap) * step
        _add(source[before : before + size], source[after : after + size], weights[tap], out)


@numba.njit(nogil=True, cache=True)
def _begin(source, weight, out):
    for n in range(len(out)):
        out[n] = weight * source[n]


@numba.njit(nogil=True, cache=True)
def _add(one, other, weight, out):
    for n in range(len(out)):
        out[n] += weight * (one[n] + other[n])


@numba.njit(nogil=True, cache=True)
def _lower_resolution(patch, sizes):
    """Averages (I, J, K) over `sizes` larger voxels along each axis and interpolates back, in place."""
    ni, nj, nk = patch.shape
    if sizes[0] < ni:
        for j in range(nj):
            _coarsen(patch[:, j], sizes[0])
    if sizes[1] < nj:
        for i in range(ni):
            _coarsen(patch[i], sizes[1])
    if sizes[2] < nk:
        for i in range(ni):
            plane = np.ascontiguousarray(patch[i].T)
            _coarsen(plane, sizes[2])
            patch[i] = plane.T


@numba.njit(nogil=True, cache=True)
def _coarsen(plane, size):
    """Along the first axis of (N, M), in place: torch's `interpolate(mode="area")`, then `mode="linear"`."""
    n, m = plane.shape
    coarse = np.zeros((size, m), np.float32)
    for cell in range(size):
        first, last = cell * n // size, -((-(cell + 1) * n) // size)
        for row in range(first, last):
            for k in range(m):
                coarse[cell, k] += plane[row, k]
        share = np.float32(1) / np.float32(last - first)
        for k in range(m):
            coarse[cell, k] *= share
    for row in range(n):
        place = max((row + 0.5) * size / n - 0.5, 0.0)
        below = int(place)
        above = min(below + 1, size - 1)
        fraction = np.float32(place - below)
        for k in range(m):
            plane[row, k] = coarse[below, k] + (coarse[above, k] - coarse[below, k]) * fraction
