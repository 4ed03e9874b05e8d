"""Labels that travel with scans: where label maps are found, and points that stay where they are in the world."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from toolkit.errors import DataError
from toolkit.scans import Preprocessing, Volume, VolumeStore, preprocess, read_volume
from toolkit.scans.labels import label_map_paths, read_points, resampled_label_map

AFFINE = np.eye(4)  # oblique, and towards left and posterior
AFFINE[:3, :3] = Rotation.from_euler("xyz", (8, -5, 176), degrees=True).as_matrix() * (0.9, 1.1, 1.4)
AFFINE[:3, 3] = 80, 60, -20


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A block with one voxel that is brightest, (30, 12, 9), in a file whose axes are not RAS."""
    array = np.zeros((40, 30, 20), np.float32)
    array[26:34, 8:15, 6:12] = np.random.default_rng([0]).uniform(100, 500, (8, 7, 6))
    array[30, 12, 9] = 1000
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def rows_of(*paths: Path) -> pd.DataFrame:
    return pd.DataFrame({"path": map(str, paths), "subject": [f"s{number}" for number in range(len(paths))]})


@pytest.mark.parametrize("crop_margin_mm", [None, 1.0])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_point_in_voxels_is_where_the_bright_voxel_went(
    scan: Path, tmp_path: Path, suffix: str, crop_margin_mm: float | None
) -> None:
    path = scan.with_suffix("").with_suffix(suffix)
    if suffix == ".nrrd":
        sitk.WriteImage(sitk.ReadImage(str(scan)), str(path))
    table = tmp_path / "points.csv"
    table.write_text(f"path,i,j,k,label\n{path.name},30,12,9,lesion\n{path.name},0,0,0,corner\n")
    (points,) = read_points(table, rows_of(path))
    np.testing.assert_allclose(points.positions_mm[0], (AFFINE @ [30, 12, 9, 1])[:3], atol=1e-4)
    volume = read_volume(path)
    spec = Preprocessing(
        spacing_mm=volume.spacing_mm, crop_margin_mm=crop_margin_mm, intensity_percentiles=(0, 100)
    )  # as it is: an interpolated voxel is not the brightest
    stored = VolumeStore(tmp_path / "store").put("k", preprocess(volume, spec))
    i, j, k = np.rint(points.voxels(stored.affine)[0]).astype(int)
    assert (stored.load().array == 1).sum() == stored.load().array[0, i, j, k] == 1
    assert points.labels.tolist() == ["lesion", "corner"]


def test_points_in_the_world_belong_to_their_scans(scan: Path, tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("path,x_mm,y_mm,z_mm,label\nother.nii,1,2,3,a\nscan.nii.gz,4,5,6,b\nscan.nii.gz,7,8,9,c\n")
    first, second, third = read_points(table, rows_of(scan, tmp_path / "other.nii", tmp_path / "none.nii"))
    np.testing.assert_array_equal(first.positions_mm, [[4, 5, 6], [7, 8, 9]])
    assert (second.labels.tolist(), third.positions_mm.shape) == (["a"], (0, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x_mm,y_mm,label\n", "no column 'z_mm'"),
        ("x_mm,y_mm,z_mm,label\n", "no column 'subject'"),
        ("subject,x_mm,y_mm,z_mm,label\ns9,1,2,3,a\n", "row 1: no scan of the manifest has this subject"),
        ("subject,x_mm,y_mm,z_mm,label\ns0,1,two,3,a\n", "a coordinate is no number"),
        ("path,i,j,k,label\nseries,1,2,3,a\n", "points in voxels of a DICOM series; give them as x_mm"),
        ("subject,i,j,k,label\ns0,1,2,3,a\n", "name it in a column path"),
    ],
)
def test_points_that_cannot_be_placed_are_refused(scan: Path, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "points.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        read_points(table, rows_of(scan, tmp_path / "series"))


def test_voxels_of_a_series_are_refused_by_row_and_not_by_name(scan: Path, tmp_path: Path) -> None:
    """A run shows its errors around."""
    (tmp_path / "Doe_Jane").mkdir()
    table = tmp_path / "points.csv"
    table.write_text("path,i,j,k,label\nDoe_Jane,1,2,3,a\n")
    with pytest.raises(DataError, match=r"row 2 of the manifest, a DICOM series, .* x_mm, y_mm, z_mm$") as caught:
        read_points(table, rows_of(scan, tmp_path / "Doe_Jane"))
    assert "Doe_Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("studies", "is_known"), [(["a", "a"], True), (["a", "b"], False), (["", ""], False), (["a", ""], False)]
)
def test_points_of_a_subject_with_several_scans_need_one_study(
    scan: Path, tmp_path: Path, studies: list[str], is_known: bool
) -> None:
    table = tmp_path / "points.csv"
    table.write_text("subject,x_mm,y_mm,z_mm,label\ns0,1,2,3,a\n")
    rows = rows_of(scan, tmp_path / "other.nii", tmp_path / "third.nii").assign(subject=["s0", "s0", "s1"])
    rows["study"] = [*studies, ""]
    if is_known:
        first, second, third = read_points(table, rows)
        np.testing.assert_array_equal(first.positions_mm, second.positions_mm)
        assert (len(first.labels), len(third.labels)) == (1, 0)
        return
    with pytest.raises(DataError, match=r"s0 has 2 scans .* name the scan in a column path"):
        read_points(table, rows)
    table.write_text("subject,x_mm,y_mm,z_mm,label\ns1,1,2,3,a\n")
    assert [len(points.labels) for points in read_points(table, rows)] == [0, 0, 1]  # s0 has no points to place


def test_label_maps_by_column_by_rule_and_by_table(scan: Path, tmp_path: Path) -> None:
    other, mask = tmp_path / "b.nii", tmp_path / "scan_seg.nii.gz"
    mask.write_bytes(b"")
    rows = rows_of(scan, other)
    assert label_map_paths(rows) == ["", ""]
    assert label_map_paths(rows, "{folder}/{name}_seg.nii.gz") == [str(mask), ""]
    assert label_map_paths(rows.assign(label_map=["", "own.nii"]), "{folder}/{name}_seg.nii.gz") == [
        str(mask),
        "own.nii",
    ]
    table = tmp_path / "labels.csv"
    table.write_text("path,label,mask\nscan.nii.gz,1,scan_seg.nii.gz\nb.nii,0,\n")
    assert label_map_paths(rows, str(table)) == [str(mask), ""]
    for rule, message in (("{folder}/no.nii", "no scan of the manifest"), ("{patient}.nii", "folder.* and .*name")):
        with pytest.raises(DataError, match=message):
            label_map_paths(rows, rule)


def test_a_label_map_of_another_scan_is_refused(tmp_path: Path) -> None:
    far = np.eye(4)
    far[:3, 3] = 500
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), far), tmp_path / "far.nii")
    with pytest.raises(DataError, match=r"far\.nii: none of its labels lies in the scan"):
        resampled_label_map(str(tmp_path / "far.nii"), Volume(np.zeros((1, 5, 5, 5), np.float32), np.eye(4)))
