"""Labels that travel with scans: label maps on the stored grid, and points as places in the world or as voxels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans import itk, nifti
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.patches import voxel_places
from toolkit.scans.preprocessing import resample
from toolkit.scans.store import as_int16
from toolkit.scans.volumes import VOLUME_SUFFIXES, Volume, is_folder, read_volume, split_path

LABEL_MAP_COLUMN = "label_map"
_MM, _VOXEL = ["x_mm", "y_mm", "z_mm"], ["i", "j", "k"]


@dataclass(frozen=True)
class Points:
    """Labelled places of one scan.

    Attributes:
        positions_mm: (N, 3), world, right, anterior and superior, as NIfTI has it.
        labels: (N,) text.
    """

    positions_mm: np.ndarray
    labels: np.ndarray

    def voxels(self, affine: np.ndarray) -> np.ndarray:
        """Where the points lie in a volume with this affine, (N, 3), not rounded; resampled and cropped or not."""
        return voxel_places(affine, self.positions_mm)


def label_map_paths(rows: pd.DataFrame, rule: str = "") -> list[str]:
    """The file of each scan's label map, "" where there is none.

    Args:
        rows: A manifest. Its column `label_map`, if there is one and a cell is not empty, comes first.
        rule: "" for that column alone. A table (`*.csv`) with columns `path` and `label_map` (or `mask`), relative to
            its own folder. Or the naming rule of files beside the scans, with {folder} and {name} (without suffix) of
            the scan: "{folder}/{name}_seg.nii.gz".

    Raises:
        DataError: The rule finds no file at all.
    """
    own = rows[LABEL_MAP_COLUMN].tolist() if LABEL_MAP_COLUMN in rows else [""] * len(rows)
    if not rule:
        return own
    if rule.lower().endswith(".csv"):
        found = _by_table(rows["path"], Path(rule))
    else:
        found = [_by_rule(path, rule) for path in rows["path"]]
    paths = [first or second for first, second in zip(own, found, strict=True)]
    if not any(paths):
        raise DataError(f"label maps {rule!r}: no scan of the manifest has such a file; check the rule")
    return paths


def label_maps_digest(rows: pd.DataFrame, rule: str = "") -> str:
    """16 hex digits of which scan has which label map, by the maps' bytes; arguments as `label_map_paths`."""
    digest = hashlib.sha256()
    for path, label_map in zip(rows["path"], label_map_paths(rows, rule), strict=True):
        digest.update(f"{path}\0{_hash_or_nothing(label_map)}\n".encode(errors="replace"))
    return digest.hexdigest()[:16]


def _hash_or_nothing(label_map: str) -> str:
    """The content hash; "" for a file that cannot be read: the store refuses its row, without naming it."""
    try:
        return content_hash(scan_files(label_map)) if label_map and split_path(label_map)[0].exists() else ""
    except (OSError, ValueError, DataError):
        return ""


def resampled_label_map(path: str, like: Volume) -> np.ndarray:
    """A label map on the grid of the preprocessed scan `like`, nearest neighbour, (I, J, K) int16.

    Raises:
        DataError: It cannot be read, has several channels or values that are no whole numbers of 16 bits, or none of
            its labels lies in the scan.
    """
    raw = read_volume(path, whole=True)
    if len(raw.array) != 1:
        raise DataError(f"{path}: a label map of {len(raw.array)} channels; keep one number a voxel")
    raw = Volume(as_int16(raw.array), raw.affine)
    labels: np.ndarray = resample(raw, like, labels=True).array[0]
    if raw.array.any() and not labels.any():
        raise DataError(f"{path}: none of its labels lies in the scan; does it belong to another one?")
    return labels


def read_points(table: Path, rows: pd.DataFrame) -> list[Points]:
    """The points of each scan of a manifest.

    Args:
        table: A CSV with a column `path` or `subject` that names the scan, `label`, and either `x_mm, y_mm, z_mm`
            (world, right-anterior-superior as in NIfTI) or `i, j, k` (voxels of the file as it is stored, from 0; only
            with `path`). World points of a subject are those of all its scans, which then must be of one study.
        rows: A manifest.

    Raises:
        DataError: A column is missing, a coordinate is no number, a row names no scan, or more than one frame of
            reference, or voxels of DICOM.
    """
    try:
        points = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: cannot be read ({error})") from None
    on = "path" if "path" in points else "subject"
    columns = _MM if _MM[0] in points else _VOXEL
    for column in (on, "label", *columns):
        if column not in points:
            raise DataError(f"{table}: no column {column!r}; {nearest(column, list(points))}")
    if on == "subject" and columns == _VOXEL:
        raise DataError(
            f"{table}: voxels i, j, k count in one file; name it in a column path, or give x_mm, y_mm, z_mm"
        )
    names = [str(_absolute(path, table.parent)) for path in points["path"]] if on == "path" else points["subject"]
    scans = [str(_absolute(path, Path())) for path in rows["path"]] if on == "path" else rows["subject"].tolist()
    known = set(scans)
    for number, name in enumerate(names, start=1):
        if name not in known:
            raise DataError(f"{table}: row {number}: no scan of the manifest has this {on}")
    if on == "subject":
        _refuse_several_frames(table, rows[rows["subject"].isin(set(names))])
    try:
        places = points[columns].astype(float).to_numpy()
    except ValueError as error:
        raise DataError(f"{table}: a coordinate is no number ({error})") from None
    numbers: dict[str, list[int]] = {name: [] for name in known}
    for number, name in enumerate(names):
        numbers[name].append(number)
    labels, found = points["label"].to_numpy(str), []
    for number, (path, name) in enumerate(zip(rows["path"], scans, strict=True), start=1):
        mine = numbers[name]
        positions = places[mine]
        if columns == _VOXEL and mine:
            if is_folder(split_path(path)[0]):  # said here without the path, which a run must not show
                raise DataError(
                    f"{table}: voxels i, j, k of row {number} of the manifest, a DICOM series, whose voxels nobody "
                    "counts alike; give them as x_mm, y_mm, z_mm"
                )
            affine = file_affine(path)
            positions = positions @ affine[:3, :3].T + affine[:3, 3]
        found.append(Points(positions, labels[mine]))
    return found


def _refuse_several_frames(table: Path, rows: pd.DataFrame) -> None:
    """Scans of one study share the scanner's coordinates; those of several days do not."""
    for subject, scans in rows.groupby("subject"):
        studies = set(scans["study"]) if "study" in scans else {""}
        if len(scans) > 1 and (len(studies) > 1 or "" in studies):
            raise DataError(
                f"{table}: {subject} has {len(scans)} scans that are not known to be of one study, so nothing says in "
                "which its points lie; name the scan in a column path"
            )


def file_affine(path: str) -> np.ndarray:
    """Voxels of a file, as its own format counts them, to world millimetres (RAS), (4, 4); only the header is read.

    Raises:
        DataError: A DICOM series, whose voxels nobody counts alike.
    """
    place, _ = split_path(path)
    if place.name.lower().endswith(nifti.SUFFIXES):
        return nifti.header_affine(nifti.read_header(place))
    if not place.name.lower().endswith(itk.SUFFIXES):
        raise DataError(f"{path}: points in voxels of a DICOM series; give them as x_mm, y_mm, z_mm")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(place))
    reader.ReadImageInformation()
    return itk.ras_affine(reader)


def _by_table(paths: Sequence[str], table: Path) -> list[str]:
    try:
        listed = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: cannot be read ({error})") from None
    column = LABEL_MAP_COLUMN if LABEL_MAP_COLUMN in listed else "mask"
    for name in ("path", column):
        if name not in listed:
            raise DataError(f"{table}: no column {name!r}; {nearest(name, list(listed))}")
    here = table.resolve().parent
    maps = {str(_absolute(path, here)): mask for path, mask in zip(listed["path"], listed[column], strict=True)}
    found = []
    for path in paths:
        mask = maps.get(str(_absolute(path, Path())), maps.get(str(_absolute(str(split_path(path)[0]), Path())), ""))
        found.append(str(_absolute(mask, here)) if mask else "")
    return found


def _by_rule(path: str, rule: str) -> str:
    place, _ = split_path(path)
    suffix = next((suffix for suffix in VOLUME_SUFFIXES if place.name.lower().endswith(suffix)), "")
    name = place.name[: len(place.name) - len(suffix)]
    try:
        found = Path(rule.format(folder=place.parent, name=name))
    except (KeyError, IndexError, ValueError):
        raise DataError(f"label maps {rule!r}: a rule knows {{folder}} and {{name}} only") from None
    return str(found) if found.exists() else ""


def _absolute(path: str, folder: Path) -> Path:
    return (folder / path).absolute()
