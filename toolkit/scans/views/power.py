"""A power of numbers between 0 and 1 that the compiler can turn into vector instructions."""

# mypy: allow-untyped-defs

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, inline="always", error_model="numpy")
def power(base, exponent):
    """`base ** exponent` for a base in 0 to 1, to about 1e-6 of the result.

    The library's `powf` is called once a voxel and takes most of a view's time; this compiles to vector instructions.
    The logarithm is the exponent plus that of the mantissa m between sqrt(1/2) and sqrt(2), a series in s.
    """
    one = np.float32(1)
    bits = np.float32(max(base, np.float32(1e-30))).view(np.int32)
    shift = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))  # 0x3F3504F3 is sqrt(1/2)
    mantissa = np.int32(bits - np.int32(shift << np.int32(23))).view(np.float32)
    s = (mantissa - one) / (mantissa + one)
    t = s * s
    series = ((np.float32(0.32121494) * t + np.float32(0.41219858)) * t + np.float32(0.57707802)) * t
    log2 = np.float32(shift) + s * ((series + np.float32(0.96179669)) * t + np.float32(2.8853901))
    scaled = max(log2 * exponent, np.float32(-126))
    whole = np.int32(scaled - np.float32(0.5))  # scaled is not positive: truncation rounds to the nearest
    x = (scaled - np.float32(whole)) * np.float32(0.6931472)
    e = ((np.float32(1 / 720) * x + np.float32(1 / 120)) * x + np.float32(1 / 24)) * x + np.float32(1 / 6)
    e = ((e * x + np.float32(0.5)) * x + one) * x + one
    result = e * np.int32(np.int32(whole + np.int32(127)) << np.int32(23)).view(np.float32)
    return result if base > np.float32(0) else np.float32(0)
