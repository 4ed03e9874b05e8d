"""Which scans show the same: a perceptual hash that outlives resampling, other formats, brightness, crops and padding.

All brains that were brought into one space look alike when blurred, and most alike in their middle. So what is hashed
is fine detail (structures of about 5 mm, each region's contrast levelled), softly limited to the middle of the body
that the scan shows, where cropping and a stripped skull change little. Random projections of it, by their signs alone
(Charikar, 2002), are compared bit by bit.

A fingerprint is two hashes. The first is tied to the world coordinates of the header, which converters, resampling
and cropping keep; the second to the centre of the body, for files whose header lost its origin. Each is 768 signs from
a lattice of 262,144 values. The best guess at Colin27 from them, by one who knows the spectrum of his head, correlated
.11 with his picture.

Copies that were turned by degrees or mirrored are not found: similarities are .61 to .74 at 6 degrees and .31 mirrored,
where `NEAR` is .83.
"""

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from toolkit.console import track
from toolkit.errors import DataError
from toolkit.scans.preprocessing import foreground_mask
from toolkit.scans.volumes import Volume

NEAR = 0.83
"""Similarity from which two scans are near-duplicates. Measured on four heads in one space: copies (other intensities,
16 bits, voxels of 3 mm, slices of 5 mm, a tenth cut off, a bias field, noise) reach .91 or more, and so do two averages
of the same 152 heads; a person and an average come to .75 at most, two people to .56."""

NUM_BITS = 768
LATTICE, STEP_MM = 64, 3.0
WINDOW_MM = 40.0
FINE_MM, COARSE_MM, LEVEL_MM = 1.5, 3.0, 8.0
"""Deviations of the Gaussians between which detail is kept, and over which its contrast is levelled."""
_FINGERPRINT = re.compile(f"[0-9a-f]{{{NUM_BITS // 2}}}")
_WORK_MM = 2.0
_LEAST_DETAIL = 0.01  # of the foreground's intensity; weaker detail is noise and stays weak


def fingerprint(volume: Volume) -> str:
    """The hash of a scan: 384 hex digits, or "" for a scan without any structure. About .3 s for 256^3 voxels.

    Args:
        volume: A scan as `read_volume` gives it, before any preprocessing; of several channels the first counts.
    """
    array, affine = _reduced(volume.array[0], volume.affine, _WORK_MM)
    bright = _levels(array)
    if not bright.any():
        return ""
    centre_mm = _centre(bright, affine)
    bright, affine = _around(bright, affine, centre_mm)
    detail = _detail(bright, affine)
    if not detail.any():
        return ""
    bits = [_bits(_on_lattice(detail, affine, centre_mm, origin_mm)) for origin_mm in (np.zeros(3), centre_mm)]
    return np.packbits(np.concatenate(bits)).tobytes().hex()


def similarity(a: str, b: str) -> float:
    """How alike two scans are, 1 for the same, about 0 for strangers: an estimate of their details' correlation.

    An empty fingerprint is like none.
    """
    return float(_similarities(_unpacked([a]), _unpacked([b]))[0, 0]) if a and b else 0.0


def clusters(fingerprints: Sequence[str], *, threshold: float = NEAR) -> np.ndarray:
    """Groups near-duplicates; linked scans share a cluster even if they are linked only through others.

    Args:
        fingerprints: N fingerprints; an empty one is near nothing.
        threshold: Similarity from which two are near.

    Returns:
        (N,) index of the first of each one's cluster.

    Raises:
        DataError: One is no fingerprint.
    """
    first = np.arange(len(fingerprints))
    known = np.flatnonzero([bool(f) for f in fingerprints])
    bits = _unpacked([fingerprints[row] for row in known])
    for number, row in enumerate(track(known, "comparing fingerprints")):
        near = known[:number][_similarities(bits[number : number + 1], bits[:number])[0] >= threshold]
        if len(near):
            linked = np.unique(first[near])
            first[np.isin(first, linked[1:])] = linked[0]
            first[row] = linked[0]
    return first


def near_any(fingerprints: Sequence[str], others: Sequence[str], *, threshold: float = NEAR) -> np.ndarray:
    """Which of `fingerprints` are near-duplicates of any of `others`: a boolean array (len(fingerprints),).

    Raises:
        DataError: One is no fingerprint.
    """
    found = np.zeros(len(fingerprints), bool)
    bits_of_others = _unpacked([other for other in others if other])
    for row, own in enumerate(track(fingerprints, "comparing fingerprints")):
        if own and len(bits_of_others):
            found[row] = (_similarities(_unpacked([own]), bits_of_others) >= threshold).any()
    return found


def _reduced(array: np.ndarray, affine: np.ndarray, size_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks that are about `size_mm` wide; voxels that are larger stay."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    factors = np.clip(np.rint(size_mm / spacing).astype(int), 1, array.shape)
    counts = array.shape // factors
    (a, b, c), (i, j, k) = counts, factors
    means = array[: a * i, : b * j, : c * k].reshape(a, i, b, j, c, k).mean(axis=(1, 3, 5))
    larger = affine @ np.diag([*factors, 1.0])
    larger[:3, 3] = (affine @ [*((factors - 1) / 2), 1.0])[:3]
    return means, larger


def _levels(array: np.ndarray) -> np.ndarray:
    """Intensities with the background at 0, the foreground's median at 1, and at most 2; all 0 for one intensity."""
    array = np.clip(array, *np.percentile(array, [0.1, 99.9]))
    if array.min() == array.max():
        return np.zeros_like(array)
    above = foreground_mask(array[None], "otsu")
    low, high = np.median(array[~above]), np.median(array[above])
    return np.clip((array - low) / (high - low), 0, 2)


def _centre(bright: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the body's middle lies, in mm of the world (3,)."""
    weights = np.where(bright > 0.25, np.minimum(bright, 1), 0)
    along = [weights.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    middle = [float(np.average(np.arange(len(sums)), weights=sums)) for sums in along]
    return (affine @ [*middle, 1.0])[:3]


def _around(array: np.ndarray, affine: np.ndarray, centre_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What lies around the centre as far as the lattice and the filters reach: a whole body is larger."""
    reach = (LATTICE * STEP_MM / 2 + 3 * LEVEL_MM) * np.abs(np.linalg.inv(affine[:3, :3])).sum(axis=1)
    middle = np.linalg.solve(affine, [*centre_mm, 1.0])[:3]
    low = np.clip(np.floor(middle - reach), 0, np.array(array.shape) - 1).astype(int)
    high = np.ceil(middle + reach).astype(int) + 1
    moved = affine.copy()
    moved[:3, 3] = (affine @ [*low, 1.0])[:3]
    return array[tuple(slice(*ends) for ends in zip(low, np.maximum(high, low + 1), strict=True))], moved


def _detail(bright: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Structures between two scales, with the same contrast everywhere."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))

    def smooth(array: np.ndarray, sigma_mm: float) -> np.ndarray:
        return ndimage.gaussian_filter(array, sigma_mm / spacing, mode="nearest", truncate=3)

    detail = smooth(bright, FINE_MM) - smooth(bright, COARSE_MM)
    return detail / (np.sqrt(smooth(detail**2, LEVEL_MM)) + _LEAST_DETAIL)


def _on_lattice(detail: np.ndarray, affine: np.ndarray, centre_mm: np.ndarray, origin_mm: np.ndarray) -> np.ndarray:
    """Values around the centre at multiples of STEP_MM from `origin_mm`, each at its multiple modulo LATTICE.

    So a value stays where it is when the centre, and with it the window, moves a little.
    """
    first = np.ceil((centre_mm - origin_mm) / STEP_MM).astype(int) - LATTICE // 2
    points = [(np.arange(LATTICE) + first[axis]) * STEP_MM + origin_mm[axis] for axis in range(3)]
    x, y, z = np.meshgrid(*points, indexing="ij", sparse=True)
    inverse = np.linalg.inv(affine)
    indices = [row[0] * x + row[1] * y + row[2] * z + row[3] for row in inverse[:3]]
    values = ndimage.map_coordinates(detail, np.stack(indices), order=1, mode="grid-constant")
    for axis in range(3):
        window = np.exp(-0.5 * ((points[axis] - centre_mm[axis]) / WINDOW_MM) ** 2)
        values *= np.expand_dims(window, tuple({0, 1, 2} - {axis}))
    return np.roll(values, first, axis=(0, 1, 2))


def _bits(values: np.ndarray) -> np.ndarray:
    """Signs of NUM_BITS random projections, by random signs and a Walsh-Hadamard transform (Ailon & Chazelle, 2006)."""
    out = values.ravel().astype(np.float64) * _random_signs(values.size)
    half = 1
    while half < out.size:
        out = out.reshape(-1, 2, half)
        out = np.stack([out[:, 0] + out[:, 1], out[:, 0] - out[:, 1]], axis=1)
        half *= 2
    return out.ravel()[_random_rows(out.size)] > 0


@functools.cache
def _random_signs(count: int) -> np.ndarray:
    """+1 and -1 from a hash function: the same wherever and whenever, as NumPy's generators do not promise."""
    stream = hashlib.shake_256(b"fewlabel fingerprint 1").digest(count // 8)
    return 2.0 * np.unpackbits(np.frombuffer(stream, np.uint8)) - 1


@functools.cache
def _random_rows(count: int) -> np.ndarray:
    """Which outputs of the transform are kept: neighbouring ones of a small body are the same."""
    stream = hashlib.shake_256(b"fewlabel fingerprint 1: rows").digest(16 * NUM_BITS)
    rows = np.unique(np.frombuffer(stream, "<u4") % count)
    return rows[np.linspace(0, len(rows) - 1, NUM_BITS).astype(int)]


def _unpacked(fingerprints: Sequence[str]) -> np.ndarray:
    """Bits (N, 2, NUM_BITS // 64), 64 in a number."""
    for text in fingerprints:
        if not _FINGERPRINT.fullmatch(text):
            raise DataError(
                f"{text[:16]!r}, {len(text)} characters, is no fingerprint of {NUM_BITS // 2} hex digits; "
                "`fewlabel data audit` writes them anew"
            )
    raw = bytes.fromhex("".join(fingerprints))
    return np.frombuffer(raw, np.uint64).reshape(len(fingerprints), 2, NUM_BITS // 64)


def _similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) similarities, of the better of the two hashes."""
    differing = np.bitwise_count(a[:, None] ^ b[None]).sum(axis=3, dtype=np.int64)
    return np.cos(np.pi * differing.min(axis=2) / NUM_BITS)
