"""Artefacts that arise while k-space is read line by line: factors of the lines along one axis of a view.

A product in k-space is a circular filter in the image, so both twins apply it without a Fourier transform of the view.
"""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np


def line_numbers(size: int) -> np.ndarray:
    """Signed frequencies (size,) of the lines, in the order of `numpy.fft.fft`."""
    return np.rint(np.fft.fftfreq(size) * size)


def ghosting_mask(size: int, periods: np.ndarray, weakness: np.ndarray) -> np.ndarray:
    """Every so many lines are weaker, but for the middle one: faint copies appear at equal distances.

    Args:
        size: Lines.
        periods: (V,) every how many.
        weakness: (V,) by which share.

    Returns:
        (V, size) factors.
    """
    lines = line_numbers(size)
    weak = (np.mod(lines, periods[:, None]) == 0) & (lines != 0)
    return np.where(weak, 1 - weakness[:, None], 1)


def motion_mask(size: int, times: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The patient moves twice along the axis while lines are read from the most negative to the most positive.

    What the middle line saw counts as the patient's place: moves do not shift the picture, they blur and repeat it.

    Args:
        size: Lines.
        times: (2, V) when, 0 being the first line and 1 the last, in order.
        shifts: (2, V) voxels from the first place, after each move.

    Returns:
        (V, size) complex factors of modulus 1.
    """
    lines = line_numbers(size)
    time = ((lines - lines.min()) / size)[:, None]
    place = np.where(time < times[0], 0, np.where(time < times[1], shifts[0], shifts[1]))
    return np.exp(-2j * np.pi * lines[:, None] / size * (place - place[0])).T


@numba.njit(nogil=True, cache=True)
def filter_views(views, axis, filters):
    """Circular filters (V, 2, P) along an axis of (V, C, P, P, P), and the magnitude of the result, in place."""
    for v in range(views.shape[0]):
        if axis[v] < 0:
            continue
        for patch in views[v]:
            for row in range(len(patch)):
                if axis[v] == 0:
                    _filter(patch[:, row], filters[v, 0], filters[v, 1])
                elif axis[v] == 1:
                    _filter(patch[row], filters[v, 0], filters[v, 1])
                else:
                    plane = np.ascontiguousarray(patch[row].T)
                    _filter(plane, filters[v, 0], filters[v, 1])
                    patch[row] = plane.T


@numba.njit(nogil=True, cache=True)
def _filter(plane, real, imaginary):
    n, m = plane.shape
    source = plane.copy()
    first, second = np.empty(m, np.float32), np.empty(m, np.float32)
    for row in range(n):
        first[:] = 0
        second[:] = 0
        for other in range(n):
            a, b = real[(row - other) % n], imaginary[(row - other) % n]
            for k in range(m):
                first[k] += a * source[other, k]
                second[k] += b * source[other, k]
        for k in range(m):
            plane[row, k] = math.sqrt(first[k] * first[k] + second[k] * second[k])
