"""The one interpolation of a view: crop, flips, turns, zoom and deformation in a single trilinear pass.

No `fastmath`, here and in the other kernels: with it the compiler may reorder sums, and a kernel just compiled gave
other bits than the same one from numba's cache.

Coordinates are relative to the box that the view reads, so that they are never negative (truncation is the floor) and
have the same bits wherever the box lies in its array. Index legend: i j k voxel of the patch, x y z of the source.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def interpolate_views(source, low, extent, matrices, displacements, cells, weights, zero, scale, out):
    """Fills `out` with patches before anything is done to their intensities.

    Args:
        source: (C, X, Y, Z), contiguous.
        low: First voxel of each view's box in `source`, (V, 3); it may lie outside.
        extent: Sides of the boxes, (V, 3).
        matrices: (V, 3, 4) float32, patch voxel (i, j, k, 1) to place in the box.
        displacements: (V, 3, G, G, G) float32 spline coefficients in voxels; G is 0 without deformation.
        cells: First coefficient at each place of a line, (P,), see `spline_weights`.
        weights: Of the four coefficients, (P, 4) float32.
        zero: Source value of intensity 0, in `source`'s dtype; all outside has it.
        scale: float32; intensity = (value - zero) * scale.
        out: (V, C, P, P, P) float32.
    """
    for v in range(out.shape[0]):
        inside = True
        for axis in range(3):
            inside &= low[v, axis] >= 0 and low[v, axis] + extent[v, axis] <= source.shape[axis + 1]
        for c in range(out.shape[1]):
            volume, start = source[c], low[v]
            if not inside:
                volume, start = _padded(volume, low[v], extent[v], zero), np.zeros(3, np.int64)
            pitch_x, pitch_y = volume.shape[1] * volume.shape[2], volume.shape[2]
            flat = volume.reshape(volume.size)[start[0] * pitch_x + start[1] * pitch_y + start[2] :]
            _interpolate(flat, pitch_x, pitch_y, matrices[v], displacements[v], cells, weights, zero, scale, out[v, c])


@numba.njit(nogil=True, cache=True)
def _padded(volume, low, extent, zero):
    """The box as an array of its own, `zero` where it lies outside the volume."""
    block = np.full((extent[0], extent[1], extent[2]), zero, volume.dtype)
    x0, x1 = max(low[0], 0), min(low[0] + extent[0], volume.shape[0])
    y0, y1 = max(low[1], 0), min(low[1] + extent[1], volume.shape[1])
    z0, z1 = max(low[2], 0), min(low[2] + extent[2], volume.shape[2])
    for x in range(x0, x1):
        for y in range(y0, y1):
            for z in range(z0, z1):
                block[x - low[0], y - low[1], z - low[2]] = volume[x, y, z]
    return block


@numba.njit(nogil=True, cache=True)
def _interpolate(flat, pitch_x, pitch_y, matrix, displacement, cells, weights, zero, scale, patch):
    ni, nj, nk = patch.shape
    num = displacement.shape[1]
    moves = np.zeros((3, nk), np.float32)
    across = np.empty((3, num, num), np.float32)  # the spline's coefficients after the sums over i, then over j
    along = np.empty((3, num), np.float32)
    xs, ys, zs = np.empty(nk, np.float32), np.empty(nk, np.float32), np.empty(nk, np.float32)
    places, corners = np.empty(nk, np.int64), np.empty((8, nk), flat.dtype)
    for i in range(ni):
        if num:
            _weighted_sum(displacement, cells[i], weights[i], across)
        for j in range(nj):
            if num:
                _weighted_sum_of_lines(across, cells[j], weights[j], along)
                _spline(along, cells, weights, moves)
            x0 = matrix[0, 0] * np.float32(i) + matrix[0, 1] * np.float32(j) + matrix[0, 3]
            y0 = matrix[1, 0] * np.float32(i) + matrix[1, 1] * np.float32(j) + matrix[1, 3]
            z0 = matrix[2, 0] * np.float32(i) + matrix[2, 1] * np.float32(j) + matrix[2, 3]
            for k in range(nk):
                x = x0 + matrix[0, 2] * np.float32(k) + moves[0, k]
                y = y0 + matrix[1, 2] * np.float32(k) + moves[1, k]
                z = z0 + matrix[2, 2] * np.float32(k) + moves[2, k]
                xi, yi, zi = np.int32(x), np.int32(y), np.int32(z)
                xs[k], ys[k], zs[k] = x - np.float32(xi), y - np.float32(yi), z - np.float32(zi)
                places[k] = xi * pitch_x + yi * pitch_y + zi
            _gather(flat, places, pitch_x, pitch_y, corners)
            _weigh(corners, xs, ys, zs, zero, scale, patch[i, j])


@numba.njit(nogil=True, cache=True, inline="always")
def _gather(flat, places, pitch_x, pitch_y, corners):
    """The eight neighbours of each place, as they are stored; the arithmetic that follows goes sixteen at a time."""
    c0, c1, c2, c3, c4, c5, c6, c7 = corners
    # Unsigned, or each access would first look whether it counts from the end.
    right, down, one = np.uint64(pitch_x), np.uint64(pitch_y), np.uint64(1)
    for k in range(len(places)):
        at = np.uint64(places[k])
        c0[k], c1[k], c2[k], c3[k] = flat[at], flat[at + one], flat[at + down], flat[at + down + one]
        at += right
        c4[k], c5[k], c6[k], c7[k] = flat[at], flat[at + one], flat[at + down], flat[at + down + one]


@numba.njit(nogil=True, cache=True, inline="always")
def _weigh(corners, xs, ys, zs, zero, scale, row):
    c0, c1, c2, c3, c4, c5, c6, c7 = corners
    zero = np.float32(zero)
    for k in range(len(row)):
        fx, fy, fz = xs[k], ys[k], zs[k]
        a, b = _between(c0[k], c1[k], fz), _between(c2[k], c3[k], fz)
        c, d = _between(c4[k], c5[k], fz), _between(c6[k], c7[k], fz)
        row[k] = (_between(_between(a, b, fy), _between(c, d, fy), fx) - zero) * scale


@numba.njit(nogil=True, cache=True, inline="always")
def _between(one, other, fraction):
    """In this form the result between two equal values is that value, so that background stays background."""
    one, other = np.float32(one), np.float32(other)
    return one + (other - one) * fraction


@numba.njit(nogil=True, cache=True)
def _weighted_sum(displacement, first, weights, out):
    for axis in range(3):
        for b in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = np.float32(0)
                for tap in range(4):
                    total += weights[tap] * displacement[axis, first + tap, b, c]
                out[axis, b, c] = total


@numba.njit(nogil=True, cache=True)
def _weighted_sum_of_lines(across, first, weights, out):
    for axis in range(3):
        for c in range(out.shape[1]):
            total = np.float32(0)
            for tap in range(4):
                total += weights[tap] * across[axis, first + tap, c]
            out[axis, c] = total


@numba.njit(nogil=True, cache=True)
def _spline(along, cells, weights, moves):
    for axis in range(3):
        for k in range(moves.shape[1]):
            total = np.float32(0)
            for tap in range(4):
                total += weights[k, tap] * along[axis, cells[k] + tap]
            moves[axis, k] = total
