"""What a reading process finds out about a file or a scan, as plain values that JSON can keep."""

import base64
import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from toolkit.errors import DataError
from toolkit.scans import itk, nifti
from toolkit.scans.audit.walk import DICOM_SUFFIXES, is_named_like_an_image
from toolkit.scans.dicom import looks_like_dicom, read_header
from toolkit.scans.fingerprints import fingerprint
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.reasons import Reason, ScanError
from toolkit.scans.volumes import Volume, is_volume_file, one_line_errors, read_files

THUMBNAIL_PIXELS = 128
_FACE_FILLS = 0.4
"""Measured: .66, .72 and .87 of three heads, .04 to .16 of the same after a plain cut along the face;
no defacing tool was tried."""


def read_headers(items: list[tuple[list[str], str]]) -> list[dict[str, Any]]:
    """For each item, one file and its path, the DICOM header or why there is none.

    Returns:
        One each: `{"header": ...}`, `{"refused": [reason, detail]}`, or `{}` for a file of another kind.
    """
    return [_or_refused(_header, Path(path), path) for _, path in items]


def look(items: list[tuple[list[str], str]]) -> list[dict[str, Any]]:
    """Reads scans to their end and measures what the manifest and the page say of them.

    Args:
        items: The files of each scan (a volume file, or all of one series), and what to call it.

    Returns:
        One each: `spacing_mm`, `shape`, `content_hash`, `fingerprint`, `lowest` (intensity), `extent_mm`, `has_face`,
        `unplaced`, `not_finite` (share of values) and `thumbnail`; or `refused`: [reason, detail].
    """
    return [_or_refused(_measured, [Path(file) for file in files], path) for files, path in items]


def _or_refused(function: Callable[[Any, str], dict[str, Any]], argument: Any, path: str) -> dict[str, Any]:
    try:
        with one_line_errors(path):
            return function(argument, path)
    except ScanError as error:
        return {"refused": [error.reason, error.detail]}
    except DataError as error:  # of a fingerprint that cannot be taken
        return {"refused": [Reason.NOT_A_VOLUME, str(error).removeprefix(f"{path}: ")]}


def _header(path: Path, _: str) -> dict[str, Any]:
    is_named_so = path.name.lower().endswith(DICOM_SUFFIXES)
    if not path.stat().st_size and (is_named_so or not path.suffix):
        raise ScanError(Reason.TRUNCATED, path, "is empty; copy it again")
    if not looks_like_dicom(path):
        if is_named_so or (is_named_like_an_image(path) and _was_dicom(path)):
            raise ScanError(Reason.UNREADABLE, path, "does not begin as a DICOM file does; copy it again")
        return {}
    header = read_header(path)
    if header is None:
        raise ScanError(Reason.NOT_A_VOLUME, path, "a DICOM object without pixels: a report, a plan, a state")
    return {"header": dataclasses.asdict(header)}


def _was_dicom(path: Path) -> bool:
    """Whether a file's first kilobyte shows that it was DICOM: a UID, or its preamble, of which some is left."""
    with path.open("rb") as file:
        head = file.read(1024)
    mark = head[128:132]
    is_like_a_preamble = sum(a == b for a, b in zip(mark, b"DICM", strict=False)) >= min(len(mark), 3)
    return b"1.2.840.10008" in head or (not any(head[:128]) and is_like_a_preamble)


def _measured(files: list[Path], path: str) -> dict[str, Any]:
    volume = read_files(files, path)
    extent_mm = [float(step * count) for step, count in zip(volume.spacing_mm, volume.shape, strict=True)]
    return {
        "spacing_mm": list(volume.spacing_mm),
        "shape": list(volume.shape),
        "content_hash": content_hash(scan_files(str(files[0])) if is_volume_file(files[0]) else files),
        "fingerprint": fingerprint(volume),
        "lowest": float(volume.array.min()),
        "extent_mm": extent_mm,
        "has_face": has_face(volume),
        "unplaced": _is_unplaced(files[0]),
        "not_finite": volume.not_finite,
        "thumbnail": base64.b64encode(zlib.compress(_thumbnail(volume).tobytes())).decode("ascii"),
    }


def unpacked_thumbnail(thumbnail: str) -> np.ndarray:
    """The picture (rows, columns), uint8, that `look` gives as text."""
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(thumbnail)), np.uint8)
    return pixels.reshape(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)


def _is_unplaced(file: Path) -> bool:
    name = file.name.lower()
    return (name.endswith(nifti.SUFFIXES) and nifti.is_unplaced(file)) or (
        name.endswith(itk.SUFFIXES) and itk.is_unplaced(file)
    )


def has_face(volume: Volume) -> bool:
    """Whether a head scan shows a face, by a rule of thumb: a warning, and no proof of the contrary.

    The head is what is brighter than a tenth of the range up to the 99th percentile, in its largest piece. A face is
    there if its lower front (the front quarter, the lower half, the middle half from left to right) is filled by
    two fifths or more, and the air around the head is not exactly one value throughout, as it is where a brain was cut
    out of its head.
    """
    step = [max(round(4 / spacing), 1) for spacing in volume.spacing_mm]
    array = volume.array[0, :: step[0], :: step[1], :: step[2]]
    low, high = np.percentile(array, [1, 99])
    pieces, count = ndimage.label(array > low + 0.1 * (high - low))
    if not count:
        return False
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    box = ndimage.find_objects(pieces, max_label=largest)[largest - 1]
    head, inside = pieces[box] == largest, array[box]
    i, j, k = head.shape
    front = head[i // 4 : i - i // 4, j - max(j // 4, 1) :, : max(k // 2, 1)]
    air = inside[~head]
    is_cut_out = air.size > 0 and np.mean(air == np.median(air)) > 0.97
    return bool(front.mean() >= _FACE_FILLS and not is_cut_out)


def _thumbnail(volume: Volume) -> np.ndarray:
    """The middle axial slice (rows, columns), uint8, in its true proportions in a square; the front is up."""
    middle = volume.array[0, :, :, volume.shape[2] // 2]
    low, high = np.percentile(middle, [1, 99.5])
    grey = np.clip((middle - low) / max(high - low, 1e-6), 0, 1).T[::-1]
    sides_mm = np.array([volume.spacing_mm[1] * grey.shape[0], volume.spacing_mm[0] * grey.shape[1]])
    height, width = np.maximum(np.rint(sides_mm / sides_mm.max() * THUMBNAIL_PIXELS).astype(int), 1)
    coarse = np.maximum(np.array(grey.shape) // [height, width], 1)  # block means before the zoom, against aliasing
    grey = ndimage.uniform_filter(grey, coarse.tolist())
    places = [(np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip((height, width), grey.shape, strict=True)]
    grey = ndimage.map_coordinates(grey, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    square = np.zeros((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), np.uint8)
    top, left = (THUMBNAIL_PIXELS - height) // 2, (THUMBNAIL_PIXELS - width) // 2
    square[top : top + height, left : left + width] = np.rint(255 * grey)
    return square
