"""White and Rician noise, read from a bank: distributed as if drawn, at a tenth of the cost. On `fastmath`, see
`interpolation`.
"""

# mypy: allow-untyped-defs

import functools
import math

import numba
import numpy as np

NOISE_BANK_SIZE = 2**20 - 3
"""Prime: channels and views of equal size do not fall into step."""


@functools.cache
def noise_bank() -> np.ndarray:
    """Normal numbers (NOISE_BANK_SIZE,), float32, the same in every process."""
    return np.random.default_rng([NOISE_BANK_SIZE]).standard_normal(NOISE_BANK_SIZE, dtype=np.float32)


@functools.cache
def endless_bank(patch_size: int) -> np.ndarray:
    """The noise bank with its beginning behind its end, so that a line of a patch lies in it without a break."""
    bank = noise_bank()
    return np.concatenate([bank, bank[:patch_size]])


@numba.njit(nogil=True, cache=True)
def add_noise(views, gaussian, rician, offsets, bank):
    """Noise of two kinds, in place.

    Args:
        views: (V, C, P, P, P) float32.
        gaussian: (V,) standard deviation of white noise; 0 has none.
        rician: (V,) standard deviation of the noise in the real and in the imaginary part.
        offsets: (V, 3) where in the bank white noise and those two parts begin.
        bank: The noise bank and, behind it, its beginning again: a line lies in it without a break.
    """
    num = views.shape[4]
    for v in range(views.shape[0]):
        if gaussian[v] == 0 and rician[v] == 0:
            continue
        lines = views[v].reshape(-1, num)
        for line in range(len(lines)):
            if gaussian[v] > 0:
                a = (offsets[v, 0] + line * num) % NOISE_BANK_SIZE
                _add_white(lines[line], gaussian[v], bank[a : a + num])
            if rician[v] > 0:
                b, c = (offsets[v, 1] + line * num) % NOISE_BANK_SIZE, (offsets[v, 2] + line * num) % NOISE_BANK_SIZE
                _add_rician(lines[line], rician[v], bank[b : b + num], bank[c : c + num])


@numba.njit(nogil=True, cache=True)
def _add_white(row, deviation, bank):
    """Adds white noise to (K,), in place."""
    for k in range(len(row)):
        row[k] += deviation * bank[k]


@numba.njit(nogil=True, cache=True)
def _add_rician(row, deviation, bank, other):
    """The magnitude of (K,) with noise in its real and in its imaginary part, in place."""
    for k in range(len(row)):
        real, imaginary = row[k] + deviation * bank[k], deviation * other[k]
        row[k] = math.sqrt(real * real + imaginary * imaginary)
