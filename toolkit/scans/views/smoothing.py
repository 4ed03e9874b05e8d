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

    Each plane is blurred along k and j while it lies in the cache; the planes wait in a ring for the sum along i.
    """
    weights = _gaussian_weights(np.float64(sigma))
    radius = len(weights) - 1
    ni, nj, nk = patch.shape
    line = np.empty(nk + 2 * radius, np.float32)
    rows = np.empty((nj, nk), np.float32)
    ring = np.empty((2 * radius + 1, nj, nk), np.float32)
    for i in range(ni + radius):
        if i < ni:
            plane = ring[i % len(ring)]
            for j in range(nj):
                line[:radius] = patch[i, j, 0]
                line[radius : radius + nk] = patch[i, j]
                line[radius + nk :] = patch[i, j, nk - 1]
                _along_a_line(line, weights, rows[j])
            for j in range(nj):
                row = plane[j]
                for k in range(nk):
                    row[k] = weights[0] * rows[j, k]
                for tap in range(1, radius + 1):
                    _add(rows[max(j - tap, 0)], rows[min(j + tap, nj - 1)], weights[tap], row)
        middle = i - radius
        if middle >= 0:
            for j in range(nj):
                row, source = patch[middle, j], ring[middle % len(ring), j]
                for k in range(nk):
                    row[k] = weights[0] * source[k]
                for tap in range(1, radius + 1):
                    before, after = max(middle - tap, 0), min(middle + tap, ni - 1)
                    _add(ring[before % len(ring), j], ring[after % len(ring), j], weights[tap], row)


@numba.njit(nogil=True, cache=True)
def _along_a_line(line, weights, out):
    radius = len(weights) - 1
    for k in range(len(out)):
        out[k] = weights[0] * line[k + radius]
    for tap in range(1, radius + 1):
        _add(
            line[radius - tap : radius - tap + len(out)],
            line[radius + tap : radius + tap + len(out)],
            weights[tap],
            out,
        )


@numba.njit(nogil=True, cache=True)
def _add(one, other, weight, out):
    for k in range(len(out)):
        out[k] += weight * (one[k] + other[k])


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
