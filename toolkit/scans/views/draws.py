"""Random numbers by counting: each is a function of (seed, epoch, sample, view, stream, place), and of nothing else.

Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), with the key (seed, epoch) and the
counter (place // 4 + 1, sample, view, stream): the numbers of `numpy.random.Philox`, without making a generator for
each sample. A stream belongs to one augmentation, so that none takes numbers from another.
"""

# mypy: allow-untyped-defs

import enum

import numba
import numpy as np


class Stream(enum.IntEnum):
    """One for each kind of draw. A number once given is never given again, or old views could not be replayed."""

    SHIFT = 0
    ROTATION = 1
    ZOOM = 2
    FLIP = 3
    CROP_RESIZE = 4
    ELASTIC = 5
    BLUR = 6
    LOW_RESOLUTION = 7
    BIAS_FIELD = 8
    GAMMA = 9
    CONTRAST = 10
    BRIGHTNESS = 11
    AXIS = 12
    GHOSTING = 13
    MOTION = 14
    NOISE = 15
    RICIAN = 16
    OUTER_MASK = 17
    INNER_MASK = 18
    CUTOUT = 19
    MASK_VALUE = 20
    METHOD = 21
    """What a method draws itself, such as masks."""


def uniform(seed: int, epoch: int, samples: np.ndarray, view: int, stream: Stream, count: int) -> np.ndarray:
    """Numbers in [0, 1), (V, count) float64: 53 random bits each.

    Args:
        seed: The run's seed.
        epoch: Pass over the samples.
        samples: (V,) sample numbers.
        view: Which of a sample's views.
        stream: What they are for.
        count: How many for each sample.
    """
    out = np.empty((len(samples), count))
    key = np.array([seed % 2**64, epoch % 2**64], np.uint64)
    _fill(key, np.asarray(samples).astype(np.uint64), np.uint64(view), np.uint64(stream), out)
    return out


@numba.njit(nogil=True, cache=True)
def _fill(key, samples, view, stream, out):
    unit = 1.0 / 9007199254740992.0  # 2**-53
    for row in range(out.shape[0]):
        for start in range(0, out.shape[1], 4):
            block = _philox(np.uint64(start // 4 + 1), samples[row], view, stream, key[0], key[1])
            for place in range(start, min(start + 4, out.shape[1])):
                out[row, place] = np.float64(block[place - start] >> np.uint64(11)) * unit


@numba.njit(nogil=True, cache=True)
def _philox(c0, c1, c2, c3, k0, k1):
    """Four 64-bit numbers of one counter and key, in ten rounds."""
    for _ in range(10):
        high0, low0 = _product(np.uint64(0xD2E7470EE14C6C93), c0)
        high1, low1 = _product(np.uint64(0xCA5A826395121157), c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += np.uint64(0x9E3779B97F4A7C15)
        k1 += np.uint64(0xBB67AE8584CAA73B)
    return c0, c1, c2, c3


@numba.njit(nogil=True, cache=True)
def _product(a, b):
    """The 128 bits of a product, as two halves of 64."""
    half, low_bits = np.uint64(32), np.uint64(0xFFFFFFFF)
    a0, a1, b0, b1 = a & low_bits, a >> half, b & low_bits, b >> half
    low = a0 * b0
    middle = a1 * b0 + (low >> half)
    cross = a0 * b1 + (middle & low_bits)
    return a1 * b1 + (middle >> half) + (cross >> half), a * b
