"""Bias field, gamma, contrast and brightness in one pass. See `interpolation` on `fastmath`."""

# mypy: allow-untyped-defs

import math

import numba
import numpy as np

from toolkit.scans.views.power import power


@numba.njit(nogil=True, cache=True)
def shade_views(views, bias, gamma, inverted, contrast, brightness):
    """Bias field, gamma of the value or its negative, contrast about 1/2, brightness; background stays 0.

    Args:
        views: (V, C, P, P, P) float32, in place.
        bias: (V, 6), see `ViewParameters`; and so the others, (V,) each.
        gamma: Exponents.
        inverted: Whether they are those of the negatives.
        contrast: Factors.
        brightness: Added.
    """
    for v in range(views.shape[0]):
        fields = _bias_factors(bias[v], views.shape[2])
        for c in range(views.shape[1]):
            for i in range(views.shape[2]):
                rows = fields[0, i] * fields[1]
                _shade(views[v, c, i], rows, fields[2], gamma[v], inverted[v], contrast[v], brightness[v])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shade(plane, rows, columns, gamma, inverted, contrast, brightness):
    zero, one = np.float32(0), np.float32(1)
    shift = np.float32(0.5) - np.float32(0.5) * contrast + brightness
    for j in range(plane.shape[0]):
        row, factor = plane[j], rows[j]
        if gamma == one:
            for k in range(len(row)):
                value = min(row[k] * (factor * columns[k]), one)
                row[k] = max(value * contrast + shift, zero) if row[k] > zero else zero
        elif inverted:
            for k in range(len(row)):
                value = one - power(max(one - min(row[k] * (factor * columns[k]), one), zero), gamma)
                row[k] = max(value * contrast + shift, zero) if row[k] > zero else zero
        else:
            for k in range(len(row)):
                value = power(min(row[k] * (factor * columns[k]), one), gamma)
                row[k] = max(value * contrast + shift, zero) if row[k] > zero else zero


@numba.njit(nogil=True, cache=True)
def _bias_factors(coefficients, size):
    """The bias field's factors along each axis, (3, size), from its six coefficients."""
    fields = np.empty((3, size), np.float32)
    for axis in range(3):
        for index in range(size):
            place = 2.0 * index / max(size - 1, 1) - 1
            fields[axis, index] = math.exp(coefficients[axis] * place + coefficients[axis + 3] * place * place)
    return fields
