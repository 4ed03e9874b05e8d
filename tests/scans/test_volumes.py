"""Reading scans: one geometry from every format, and one-line errors for what cannot be read."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from toolkit.console import log
from toolkit.errors import DataError
from toolkit.scans import Volume, read_volume
from toolkit.scans.cohort import write_series


def saved(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def value_at(volume: Volume, world_mm: tuple[float, float, float]) -> float:
    i, j, k = np.rint(np.linalg.solve(volume.affine, [*world_mm, 1]))[:3].astype(int)
    return float(volume.array[0, i, j, k])


@pytest.mark.parametrize("axes", ["RAS", "LPI", "ASR", "ILP"])
def test_any_orientation_becomes_ras_and_every_voxel_keeps_its_place(tmp_path: Path, ramp: Volume, axes: str) -> None:
    stored = nib.Nifti1Image(ramp.array[0], ramp.affine).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    )
    nib.save(stored, tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert volume.spacing_mm == pytest.approx((1.5, 2.0, 3.0))
    np.testing.assert_allclose(volume.affine, ramp.affine, atol=1e-5)
    np.testing.assert_allclose(volume.array, ramp.array, rtol=1e-6)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous


def test_nrrd_gives_what_nifti_gives(tmp_path: Path, ramp: Volume) -> None:
    sitk.WriteImage(sitk.ReadImage(str(saved(tmp_path / "a.nii", ramp.array[0], ramp.affine))), tmp_path / "a.nrrd")
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_allclose(volume.affine, ramp.affine, atol=1e-5)
    np.testing.assert_array_equal(volume.array, ramp.array)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "series"])
@pytest.mark.parametrize("slope", [1.0, 0.37])
def test_whole_numbers_take_half_the_memory(tmp_path: Path, ramp: Volume, name: str, slope: float) -> None:
    scan = Volume(np.rint(ramp.array * 10) * np.float32(slope), ramp.affine)
    if name == "series":
        write_series(scan, tmp_path / name, rescale=(slope, -5 * slope))
    else:
        image = sitk.ReadImage(str(saved(tmp_path / "source.nii", scan.array[0], scan.affine)))
        sitk.WriteImage(image, tmp_path / name)
    plain, small = read_volume(tmp_path / name), read_volume(tmp_path / name, whole=True)
    assert (plain.array.dtype, small.array.dtype) == (np.float32, np.int16 if slope == 1 else np.float32)
    np.testing.assert_array_equal(small.array, plain.array)
    np.testing.assert_allclose(plain.array, scan.array, rtol=1e-5)


def test_channels_come_first(tmp_path: Path) -> None:
    data = np.random.default_rng([0]).random((5, 6, 7, 2)).astype(np.float32)
    volume = read_volume(saved(tmp_path / "two.nii", data, np.eye(4)))
    np.testing.assert_array_equal(volume.array, np.moveaxis(data, 3, 0))
    assert volume.shape == (5, 6, 7)


def test_dicom_slices_are_sorted_by_position(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "s", [30.0, 33.0, 36.0, 39.0])
    volume = read_volume(tmp_path / "s")
    assert volume.shape == (5, 6, 4)
    assert volume.spacing_mm == pytest.approx((1.0, 2.0, 3.0))
    # DICOM counts to the left and posterior: the first pixel of the first slice lies at RAS (4, 6, 30).
    assert value_at(volume, (4, 6, 30)) == 0
    assert value_at(volume, (4, 6, 39)) == 300
    assert value_at(volume, (0, 6, 30)) == 4  # column 4
    assert value_at(volume, (4, -4, 30)) == 50  # row 5


def test_one_of_several_series_is_named_not_guessed(tmp_path: Path, write_series) -> None:
    uids = [write_series(tmp_path, [0.0, 3.0, 6.0]), write_series(tmp_path, [0.0, 3.0, 6.0, 9.0])]
    with pytest.raises(DataError, match=r"2 DICOM series .*#"):
        read_volume(tmp_path)
    assert read_volume(f"{tmp_path}#{uids[1]}").shape == (5, 6, 4)
    with pytest.raises(DataError, match=r"no DICOM series 9\.9"):
        read_volume(f"{tmp_path}#9.9")


def test_a_missing_slice_is_refused(tmp_path: Path, write_series) -> None:
    write_series(tmp_path, [0.0, 3.0, 6.0, 12.0, 15.0])
    with pytest.raises(DataError, match=r"missing slices: 1 of them, 6\.000 mm after slice 3 where 3\.000 mm"):
        read_volume(tmp_path)


def test_two_slices_at_one_place_are_refused(tmp_path: Path, write_series) -> None:
    write_series(tmp_path, [0.0, 3.0, 3.0, 6.0])
    with pytest.raises(DataError, match="several slices at one position"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz", "cut.nrrd"])
@pytest.mark.parametrize("share", [0.5, 0.001])
def test_a_truncated_file_is_one_clear_line(tmp_path: Path, name: str, share: float) -> None:
    data = np.random.default_rng([0]).normal(size=(20, 20, 20)).astype(np.float32)
    path = tmp_path / name
    if name.endswith("nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(data), path)
    else:
        saved(path, data, np.eye(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("gone.nii", "no such scan"), ("notes.txt", "not a scan"), ("", "no DICOM images")]
)
def test_what_is_no_scan_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("no scan")
    with pytest.raises(DataError, match=message):
        read_volume(tmp_path / name)


def test_voxels_that_are_not_finite_get_the_smallest_value_and_many_are_refused(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), 40, np.float32)
    data[0, 0, 0], data[1, 1, 1], data[3, 3, 3] = np.nan, np.inf, -1000
    volume = read_volume(saved(tmp_path / "a.nii", data, np.eye(4)))
    assert volume.array[0, 0, 0, 0] == volume.array[0, 1, 1, 1] == -1000
    assert volume.not_finite == pytest.approx(2 / 64)
    data[:2] = np.nan
    with pytest.raises(DataError, match=r"inconsistent header: 50% of the values are not finite"):
        read_volume(saved(tmp_path / "b.nii", data, np.eye(4)))


def test_the_log_does_not_say_whose_scan_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = np.ones((4, 4, 4), np.float32)
    data[0, 0, 0] = np.nan
    with caplog.at_level("WARNING", logger="fewlabel"):
        log.propagate, before = True, log.propagate
        read_volume(saved(tmp_path / "doe_jane.nii", data, np.eye(4)))
        log.propagate = before
    assert "not finite" in caplog.text
    assert "doe_jane" not in caplog.text
