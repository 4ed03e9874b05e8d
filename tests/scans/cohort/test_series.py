"""The DICOM and NIfTI writers: other libraries read back the same intensities at the same places."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from toolkit.errors import DataError
from toolkit.scans import Volume, read_volume
from toolkit.scans.cohort import write_nifti, write_series

TURNED = Rotation.from_euler("xyz", [12, -7, 9], degrees=True).as_matrix()


def made_up(rotation: np.ndarray | None = None, low: float = 0.0) -> Volume:
    """Unequal sides and spacings, so that no two axes can be mistaken for each other."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * [1.1, 1.7, 2.3]
    affine[:3, 3] = [-21.3, 14.9, 7.7]
    array = np.random.default_rng([1]).uniform(low, 900, (1, 9, 8, 7)).astype(np.float32)
    return Volume(array, affine)


def itk_volume(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def step(volume: Volume) -> float:
    return float(np.ptp(np.append(volume.array, 0))) / 4095


@pytest.mark.parametrize("rotation", [None, TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", ["axial", "sagittal", "coronal", "RPS", "LPI", "PIL", "RAI"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_each_voxel_keeps_its_place_in_pydicom(
    tmp_path: Path, axes: str, rotation: np.ndarray | None, shuffled: bool
) -> None:
    volume = made_up(rotation)
    write_series(volume, tmp_path, axes=axes, shuffled=shuffled)
    inverse, seen = np.linalg.inv(volume.affine), np.zeros(volume.shape, int)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        row_step, column_step = map(float, data.PixelSpacing)
        along_row, along_column = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
        values = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        rows, columns = np.indices(values.shape)
        # Equation C.7.6.2.1-1 of the standard, then from left-posterior to right-anterior.
        lps = np.array(data.ImagePositionPatient, float)
        lps = lps + columns[..., None] * column_step * along_row + rows[..., None] * row_step * along_column
        index = (lps * [-1, -1, 1]) @ inverse[:3, :3].T + inverse[:3, 3]
        np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
        i, j, k = np.rint(index).astype(int).transpose(2, 0, 1)
        np.testing.assert_allclose(values, volume.array[0][i, j, k], atol=step(volume))
        seen[i, j, k] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("rotation", [None, TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", ["axial", "sagittal", "coronal", "RPS", "LPI"])
def test_simpleitk_reads_what_was_written(tmp_path: Path, axes: str, rotation: np.ndarray | None) -> None:
    volume = made_up(rotation)
    write_series(volume, tmp_path, axes=axes)
    image = itk_volume(tmp_path)
    assert image.GetNumberOfPixels() == volume.array.size
    for index in [(0, 0, 0), (8, 0, 3), (4, 7, 6)]:
        world = (volume.affine @ [*index, 1])[:3] * [-1, -1, 1]
        place = image.TransformPhysicalPointToContinuousIndex(world)
        np.testing.assert_allclose(
            np.asarray(place) * image.GetSpacing(), np.rint(place) * image.GetSpacing(), atol=1e-3
        )
        value = image.GetPixel(*(int(v) for v in np.rint(place)))
        assert value == pytest.approx(volume.array[(0, *index)], abs=1.01 * step(volume))


@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("axes", ["axial", "sagittal", "coronal", "RPS"])
def test_the_toolkit_reads_what_was_written(tmp_path: Path, axes: str, multiframe: bool) -> None:
    volume = made_up(TURNED)
    write_series(volume, tmp_path, axes=axes, multiframe=multiframe, shuffled=not multiframe)
    again = read_volume(tmp_path)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-3)
    np.testing.assert_allclose(again.array, volume.array, atol=1.01 * step(volume))


@pytest.mark.parametrize("shuffled", [False, True])
def test_each_frame_says_where_it_lies(tmp_path: Path, shuffled: bool) -> None:
    volume = made_up()
    write_series(volume, tmp_path, multiframe=True, shuffled=shuffled)
    (path,) = tmp_path.iterdir()
    data = pydicom.dcmread(path)
    assert data.NumberOfFrames == len(data.PerFrameFunctionalGroupsSequence) == 7
    heights = [
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) for frame in data.PerFrameFunctionalGroupsSequence
    ]
    assert (heights == sorted(heights)) is not shuffled
    value = data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    for height, pixels in zip(heights, data.pixel_array, strict=True):
        k = round((height - volume.affine[2, 3]) / 2.3)
        read = pixels * float(value.RescaleSlope) + float(value.RescaleIntercept)
        np.testing.assert_allclose(read, volume.array[0, ::-1, ::-1, k].T, atol=step(volume))


def test_hounsfield_units_are_stored_exactly(tmp_path: Path) -> None:
    volume = made_up(low=-1024)
    volume = Volume(np.rint(volume.array), volume.affine)
    write_series(volume, tmp_path / "ct", modality="CT")
    first = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    assert (first.Modality, first.RescaleType, first.RescaleSlope, first.RescaleIntercept) == ("CT", "HU", 1, -1024)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, volume.array)


def test_slope_and_intercept_can_be_given(tmp_path: Path) -> None:
    volume = made_up()
    write_series(volume, tmp_path, rescale=(0.5, -10))
    data = pydicom.dcmread(tmp_path / "IM00001.dcm")
    assert (data.RescaleSlope, data.RescaleIntercept) == (0.5, -10)
    assert data.pixel_array.max() == pytest.approx((volume.array[..., 0].max() + 10) / 0.5, abs=0.51)


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    uids = [write_series(made_up(), tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert uids[0] == uids[1] != uids[2]
    a, b, c = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc")
    assert len(a) == 7
    assert a == b
    assert all(first != other for first, other in zip(a, c, strict=True))


def test_shuffled_instances_are_out_of_order(tmp_path: Path) -> None:
    write_series(made_up(), tmp_path, shuffled=True)
    data = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [each.InstanceNumber for each in data] == list(range(1, 8))
    heights = [float(each.ImagePositionPatient[2]) for each in data]
    assert heights != sorted(heights) and heights != sorted(heights, reverse=True)


def test_series_of_one_study_share_it_and_tags_are_kept(tmp_path: Path) -> None:
    tags = {"PatientID": "FAKE-1", "AccessionNumber": "FAKE2", "BurnedInAnnotation": "YES", "StudyDate": "20210203"}
    for number, name in enumerate(["T1", "T2"], start=1):
        write_series(made_up(), tmp_path / name, tags=tags | {"SeriesNumber": number, "SeriesDescription": name})
    write_series(made_up(), tmp_path / "other", tags=tags | {"AccessionNumber": "FAKE3"})
    first, second, other = (pydicom.dcmread(tmp_path / name / "IM00001.dcm") for name in ("T1", "T2", "other"))
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert (first.BurnedInAnnotation, first.StudyDate, second.SeriesDescription) == ("YES", "20210203", "T2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tags": {"PatientNam": "x"}}, "did you mean 'PatientName'"),
        ({"axes": "LPX"}, "axes 'LPX'"),
        ({"rescale": (0.001, 0)}, "do not fit 16 bits"),
        ({"rescale": (0.0, 0)}, "slope of 0"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_series(made_up(), tmp_path, **change)


def test_volumes_that_dicom_cannot_hold_are_refused(tmp_path: Path) -> None:
    volume = made_up()
    sheared = volume.affine.copy()
    sheared[0, 1] = 0.4
    with pytest.raises(DataError, match="sheared"):
        write_series(Volume(volume.array, sheared), tmp_path)
    with pytest.raises(DataError, match="2 channels"):
        write_series(Volume(np.tile(volume.array, (2, 1, 1, 1)), volume.affine), tmp_path)
    with pytest.raises(DataError, match="not finite"):
        write_series(Volume(np.full_like(volume.array, np.nan), volume.affine), tmp_path)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_nifti_keeps_intensities_and_places(tmp_path: Path, axes: str) -> None:
    volume = made_up(TURNED)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(volume, tmp_path / name, axes=axes, description="MADEUP")
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert content[4:8] == bytes(4)  # gzip would put the time here
    image = nib.load(tmp_path / "a.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == axes
    assert image.get_data_dtype() == np.int16
    ras = nib.as_closest_canonical(image)
    np.testing.assert_allclose(ras.affine, volume.affine, atol=1e-3)
    np.testing.assert_allclose(ras.get_fdata(), volume.array[0], atol=step(volume))


def test_a_mask_is_stored_as_it_is(tmp_path: Path) -> None:
    mask = Volume((made_up().array > 400).astype(np.float32) * 2, np.eye(4))
    write_nifti(mask, tmp_path / "mask.nii.gz")
    image = nib.load(tmp_path / "mask.nii.gz")
    assert set(np.unique(np.asanyarray(image.dataobj.get_unscaled()))) == {0, 2}
    np.testing.assert_array_equal(image.get_fdata(), mask.array[0])
    with pytest.raises(DataError, match="ends in"):
        write_nifti(mask, tmp_path / "mask.nrrd")
