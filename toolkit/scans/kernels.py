"""The view kernel: crop, flip, rotate, zoom, blur, shade and add noise to many patches in one compiled pass.

Each patch depends on its own parameters only, so the result has the same bits for any number of threads. The
kernel runs without the interpreter lock in a plain thread pool: no OpenMP beside torch's, and nothing that
breaks after a fork.

No `fastmath`: with it the compiler may reorder sums, and a kernel just compiled gave other bits than the same one
from numba's cache, so the first run after an installation was unlike all later ones. It would save a tenth.

Index legend: v view, c channel, i j k voxel of the patch, x y z position in the source volume.
"""

# mypy: allow-untyped-defs

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

BLUR_RADIUS = 3  # voxels; sigma is limited to a third of it, where a Gaussian has fallen to 1 %
NOISE_BANK_SIZE = 2**20 - 3  # prime: channels and views of equal size do not fall into step


def render_views(
    source: np.ndarray,
    scale: float,
    offset: float,
    matrices: np.ndarray,
    shading: np.ndarray,
    bias: np.ndarray,
    noise_offsets: np.ndarray,
    out: np.ndarray,
    num_threads: int,
) -> None:
    """Fills `out` with one patch for each row of parameters.

    Args:
        source: Stored volume (C, X, Y, Z), any real dtype; intensity = value * `scale` + `offset`, in 0-1;
            0 outside.
        scale: See `source`.
        offset: See `source`.
        matrices: (V, 3, 4) float32, patch voxel (i, j, k, 1) to source voxel (x, y, z).
        shading: (V, 6) float32: blur sigma in voxels, gamma, inverted (0 or 1), contrast, brightness, noise
            deviation.
        bias: (V, 6) float32 coefficients of the bias field's logarithm in x y z xx yy zz over -1..1.
        noise_offsets: (V,) int64, where in a fixed bank of normal numbers each view's noise begins.
        out: (V, C, I, J, K) float32.
        num_threads: Threads to share the views between.
    """
    bank = _noise_bank()
    num_views = len(out)
    share = -(-num_views // num_threads)
    bounds = [(start, min(start + share, num_views)) for start in range(0, num_views, share)]

    def render(bound: tuple[int, int]) -> None:
        part = slice(*bound)
        _render(
            source,
            scale,
            offset,
            matrices[part],
            shading[part],
            bias[part],
            noise_offsets[part],
            bank,
            out[part],
        )

    if len(bounds) == 1:
        render(bounds[0])
        return
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(render, bounds))


@functools.cache
def _noise_bank() -> np.ndarray:
    """Normal numbers that all noise is read from: distributed as if drawn, at a tenth of the cost."""
    return np.random.default_rng([NOISE_BANK_SIZE]).standard_normal(NOISE_BANK_SIZE, dtype=np.float32)


@numba.njit(nogil=True, cache=True)
def _render(source, scale, offset, matrices, shading, bias, noise_at, bank, out):
    size = out.shape[2:]
    scratch = np.empty(size, np.float32)
    for v in range(out.shape[0]):
        for c in range(out.shape[1]):
            patch = out[v, c]
            _sample(source[c], np.float32(scale), np.float32(offset), matrices[v], patch)
            if shading[v, 0] > 0:
                _blur(patch, scratch, shading[v, 0])
            _shade(patch, shading[v], bias[v])
            if shading[v, 5] > 0:
                _add_noise(patch, shading[v, 5], bank, noise_at[v] + c * patch.size)


@numba.njit(nogil=True, cache=True)
def _sample(volume, scale, offset, matrix, patch):
    """Trilinear interpolation at the affine image of each patch voxel; what lies outside the volume is 0."""
    nx, ny, nz = volume.shape
    zero, one = np.float32(0), np.float32(1)
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            x0 = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
            y0 = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
            z0 = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
            for k in range(patch.shape[2]):
                x = x0 + matrix[0, 2] * k
                y = y0 + matrix[1, 2] * k
                z = z0 + matrix[2, 2] * k
                xi, yi, zi = math.floor(x), math.floor(y), math.floor(z)
                fx, fy, fz = np.float32(x - xi), np.float32(y - yi), np.float32(z - zi)
                value = zero
                if 0 <= xi < nx - 1 and 0 <= yi < ny - 1 and 0 <= zi < nz - 1:
                    a = volume[xi, yi, zi] * (one - fz) + volume[xi, yi, zi + 1] * fz
                    b = volume[xi, yi + 1, zi] * (one - fz) + volume[xi, yi + 1, zi + 1] * fz
                    d = volume[xi + 1, yi, zi] * (one - fz) + volume[xi + 1, yi, zi + 1] * fz
                    e = volume[xi + 1, yi + 1, zi] * (one - fz) + volume[xi + 1, yi + 1, zi + 1] * fz
                    stored = (a * (one - fy) + b * fy) * (one - fx) + (d * (one - fy) + e * fy) * fx
                    value = stored * scale + offset
                elif -1 <= xi < nx and -1 <= yi < ny and -1 <= zi < nz:
                    for dx in range(2):
                        for dy in range(2):
                            for dz in range(2):
                                px, py, pz = xi + dx, yi + dy, zi + dz
                                if 0 <= px < nx and 0 <= py < ny and 0 <= pz < nz:
                                    weight = (
                                        (fx if dx else one - fx) * (fy if dy else one - fy) * (fz if dz else one - fz)
                                    )
                                    value += weight * (volume[px, py, pz] * scale + offset)
                patch[i, j, k] = value


@numba.njit(nogil=True, cache=True)
def _blur(patch, scratch, sigma):
    """Separable Gaussian; the patch's border voxels repeat outwards."""
    weights = np.empty(2 * BLUR_RADIUS + 1, np.float32)
    for tap in range(-BLUR_RADIUS, BLUR_RADIUS + 1):
        weights[tap + BLUR_RADIUS] = math.exp(-0.5 * (tap / sigma) ** 2)
    weights /= weights.sum()
    ni, nj, nk = patch.shape
    for axis in range(3):
        scratch[:] = patch
        n = patch.shape[axis]
        patch[:] = np.float32(0)
        for i in range(ni):
            for j in range(nj):
                for tap in range(-BLUR_RADIUS, BLUR_RADIUS + 1):
                    weight = weights[tap + BLUR_RADIUS]
                    if axis == 0:
                        a = min(max(i + tap, 0), n - 1)
                        for k in range(nk):
                            patch[i, j, k] += weight * scratch[a, j, k]
                    elif axis == 1:
                        a = min(max(j + tap, 0), n - 1)
                        for k in range(nk):
                            patch[i, j, k] += weight * scratch[i, a, k]
                    else:
                        for k in range(nk):
                            patch[i, j, k] += weight * scratch[i, j, min(max(k + tap, 0), n - 1)]


@numba.njit(nogil=True, cache=True)
def _shade(patch, shading, bias):
    """Bias field, gamma of the value or its negative, contrast about 1/2, brightness; background stays 0."""
    gamma, inverted, contrast, brightness = shading[1], shading[2] > 0, shading[3], shading[4]
    half, one, zero = np.float32(0.5), np.float32(1), np.float32(0)
    fields = np.ones((3, max(patch.shape)), np.float32)
    for axis in range(3):
        n = patch.shape[axis]
        for index in range(n):
            place = 2.0 * index / max(n - 1, 1) - 1
            fields[axis, index] = math.exp(bias[axis] * place + bias[axis + 3] * place * place)
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            field = fields[0, i] * fields[1, j]
            for k in range(patch.shape[2]):
                value = patch[i, j, k]
                if value <= zero:
                    patch[i, j, k] = zero
                    continue
                value = min(value * field * fields[2, k], one)
                if gamma != one:
                    value = one - (one - value) ** gamma if inverted else value**gamma
                patch[i, j, k] = max((value - half) * contrast + half + brightness, zero)


@numba.njit(nogil=True, cache=True)
def _add_noise(patch, deviation, bank, offset):
    flat = patch.reshape(-1)
    place = offset % bank.size
    for index in range(flat.size):
        flat[index] += deviation * bank[place]
        place += 1
        if place == bank.size:
            place = 0
