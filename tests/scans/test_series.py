"""DICOM series: where each voxel lies, what it measures, and what is no stack of slices."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from toolkit.scans import Volume, read_volume
from toolkit.scans.cohort import write_series
from toolkit.scans.dicom import read_header
from toolkit.scans.promises import MAX_VOXELS
from toolkit.scans.reasons import Reason, ScanError


@pytest.fixture
def head(textured: np.ndarray) -> Volume:
    affine = np.diag([0.9, 1.1, 1.3, 1.0])
    affine[:3, 3] = [-17.123, 30.456, -5.789]
    return Volume(1000 * textured[:, :20, :22, :18], affine)


def oblique(volume: Volume) -> Volume:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix()
    return Volume(volume.array, turn @ volume.affine)


def edit(folder: Path, change, files: slice = slice(None)) -> None:
    """Rewrites files of a series after `change(dataset, number)`."""
    for number, path in enumerate(sorted(folder.iterdir())[files]):
        data = pydicom.dcmread(path)
        change(data, number)
        data.save_as(path)


@pytest.mark.parametrize("multiframe", [False, True], ids=["slices", "frames"])
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", ["axial", "sagittal", "coronal", "RPS", "LPI", "ASR"])
def test_dicom_to_nifti_keeps_every_voxel_in_its_place(
    tmp_path: Path, head: Volume, axes: str, turned: bool, multiframe: bool
) -> None:
    source = oblique(head) if turned else head
    write_series(source, tmp_path / "s", axes=axes, shuffled=True, multiframe=multiframe)
    volume = read_volume(tmp_path / "s")
    nib.save(nib.Nifti1Image(volume.array[0], volume.affine), tmp_path / "again.nii.gz")
    again = read_volume(tmp_path / "again.nii.gz")
    for result in (volume, again):
        corners = np.array(np.meshgrid(*[[0, size - 1] for size in source.shape])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(8)])
        np.testing.assert_allclose(result.affine @ corners, source.affine @ corners, atol=1e-3)  # mm
        np.testing.assert_allclose(result.spacing_mm, source.spacing_mm, atol=1e-3)
        np.testing.assert_allclose(result.array, source.array, atol=0.13)  # half of a 12-bit step
    assert nib.aff2axcodes(again.affine) == ("R", "A", "S")


@pytest.mark.parametrize("axes", ["axial", "sagittal", "LPI"])
def test_what_itk_reads_is_what_we_read(tmp_path: Path, head: Volume, axes: str) -> None:
    write_series(oblique(head), tmp_path, axes=axes, shuffled=True, modality="CT")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = sitk.DICOMOrient(reader.Execute(), "LPS")  # axes that run to the left, posterior and superior
    theirs = sitk.GetArrayFromImage(image).transpose(2, 1, 0)[::-1, ::-1]
    np.testing.assert_allclose(read_volume(tmp_path).array[0], theirs, atol=1e-3)


def test_each_slice_has_its_own_rescale_as_in_pet(tmp_path: Path) -> None:
    level = np.repeat(np.arange(1, 9, dtype=np.float32), 30).reshape(8, 5, 6).transpose(1, 2, 0)
    write_series(Volume(np.ascontiguousarray(level)[None], np.eye(4)), tmp_path, rescale=(1.0, 0.0))

    def change(data: pydicom.Dataset, number: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = str(0.5 + number), str(-number)

    edit(tmp_path, change)
    expected = [(0.5 + k) * (k + 1) - k for k in range(8)]
    np.testing.assert_allclose(read_volume(tmp_path).array[0].mean((0, 1)), expected, rtol=1e-6)


def test_each_frame_may_have_its_own_rescale(tmp_path: Path) -> None:
    level = np.broadcast_to(np.arange(1, 5, dtype=np.float32), (5, 6, 4)).copy()
    write_series(Volume(level[None], np.eye(4)), tmp_path, rescale=(1.0, 0.0), multiframe=True)

    def change(data: pydicom.Dataset, _: int) -> None:
        del data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            value = pydicom.Dataset()
            value.RescaleSlope, value.RescaleIntercept, value.RescaleType = str(1 + number), "10", "US"
            frame.PixelValueTransformationSequence = pydicom.Sequence([value])

    edit(tmp_path, change)
    np.testing.assert_allclose(read_volume(tmp_path).array[0].mean((0, 1)), [11, 14, 19, 26])


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small"])
def test_compressed_pixels_are_decoded(tmp_path: Path, name: str) -> None:
    """pydicom's own examples, one picture in several codings; MR_small is the plain one."""
    for number in range(3):
        data = pydicom.dcmread(get_testdata_file(f"{name}.dcm"))
        data.ImagePositionPatient = [-83.9063, -91.2, 6.6406 + 5 * number]
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
        data.save_as(tmp_path / str(number))
    plain = pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array
    slices = read_volume(tmp_path).array[0].transpose(2, 1, 0)[:, ::-1, ::-1]  # rows to posterior, columns to the left
    np.testing.assert_array_equal(slices, np.stack([plain] * 3))


def test_cut_off_compressed_pixels_are_refused(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    edit(tmp_path, lambda data, _: data.compress(RLELossless, generate_instance_uid=False))
    assert read_volume(tmp_path).shape == head.shape
    path = sorted(tmp_path.iterdir())[4]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ScanError) as caught:
        read_volume(tmp_path)
    assert caught.value.reason in (Reason.TRUNCATED, Reason.UNREADABLE)


@pytest.mark.parametrize(("kept", "said"), [(slice(17), "17 frames"), ([*range(18), 0], "more frames")])
def test_packed_frames_that_are_not_as_many_as_promised_are_refused(tmp_path: Path, head: Volume, kept, said) -> None:
    write_series(head, tmp_path, multiframe=True)

    def change(data: pydicom.Dataset, _: int) -> None:
        data.compress(RLELossless, generate_instance_uid=False)
        frames = np.array(list(generate_frames(data.PixelData, number_of_frames=18)), object)
        data.PixelData = encapsulate(frames[kept].tolist())

    edit(tmp_path, change)
    with pytest.raises(ScanError, match=f"{said} where a file's header has 18; export it again") as caught:
        read_volume(tmp_path)
    assert caught.value.reason == Reason.INCONSISTENT


def shift(axis: int, by_mm):
    def change(data: pydicom.Dataset, number: int) -> None:
        position = [float(value) for value in data.ImagePositionPatient]
        position[axis] += by_mm(number)
        data.ImagePositionPatient = position

    return change


def set_orientation(data: pydicom.Dataset, number: int) -> None:
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if number % 2 else [0, 1, 0, 0, 0, -1]


def drop_position(data: pydicom.Dataset, _: int) -> None:
    del data.ImagePositionPatient


def other_size(data: pydicom.Dataset, number: int) -> None:
    if number == 3:
        data.Rows = 4
        data.PixelData = data.PixelData[: 4 * data.Columns * 2]


def coloured(data: pydicom.Dataset, _: int) -> None:
    data.PhotometricInterpretation, data.SamplesPerPixel = "RGB", 3


def skewed(data: pydicom.Dataset, _: int) -> None:
    data.ImageOrientationPatient = [1, 0, 0, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (shift(2, lambda number: 0.4 * (number == 5)), Reason.IRREGULAR_SPACING),
        (shift(2, lambda number: 1.3 * (number >= 7)), Reason.MISSING_SLICES),
        (shift(2, lambda number: 1.3 * (number == 7)), Reason.DOUBLED_SLICES),
        (shift(1, lambda number: 0.4 * number), Reason.GANTRY_TILT),
        (set_orientation, Reason.MIXED_ORIENTATIONS),
        (drop_position, Reason.NO_POSITION),
        (other_size, Reason.MIXED_SLICES),
        (coloured, Reason.NOT_A_VOLUME),
        (skewed, Reason.INCONSISTENT),
    ],
)
def test_what_is_no_stack_of_slices_is_refused(tmp_path: Path, head: Volume, change, reason: Reason) -> None:
    write_series(head, tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ScanError) as caught:
        read_volume(tmp_path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_tilted_gantry_is_named_with_its_angle(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    edit(tmp_path, shift(1, lambda number: 1.3 * np.tan(np.radians(15)) * number))
    with pytest.raises(ScanError, match=r"15\.0 degrees"):
        read_volume(tmp_path)


def test_slices_with_a_little_jitter_are_read(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    edit(tmp_path, shift(2, lambda number: 0.005 * (-1) ** number))
    assert read_volume(tmp_path).spacing_mm[2] == pytest.approx(1.3, abs=1e-3)


def test_files_without_suffix_and_without_preamble_are_read(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        content = path.read_bytes()
        meta_end = 132 + 12 + int.from_bytes(content[140:144], "little")
        path.unlink()
        (tmp_path / f"{number}").write_bytes(content[[0, 132, meta_end][number % 3] :])
    np.testing.assert_allclose(read_volume(tmp_path).array, head.array, atol=0.13)


def test_a_series_may_lie_in_several_folders_and_there_twice(tmp_path: Path, head: Volume) -> None:
    uid = write_series(head, tmp_path / "a")
    (tmp_path / "b" / "c").mkdir(parents=True)
    for path in sorted((tmp_path / "a").iterdir())[::2]:
        path.rename(tmp_path / "b" / "c" / path.name)
    volume = read_volume(f"{tmp_path}/**#{uid}")
    np.testing.assert_allclose(volume.array, head.array, atol=0.13)
    (tmp_path / "twice").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "twice" / f"copy-{path.name}").write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/**#{uid}").array, volume.array)


def test_a_folder_may_have_a_hash_in_its_name(tmp_path: Path, head: Volume) -> None:
    folder = tmp_path / "ward #7"
    uid = write_series(head, folder)
    assert read_volume(folder).shape == read_volume(f"{folder}#{uid}").shape == head.shape


def test_a_header_that_promises_100_gb_allocates_nothing(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path / "many", multiframe=True)
    write_series(head, tmp_path / "large")

    def grow(data: pydicom.Dataset, _: int) -> None:
        data.Rows, data.Columns = 65000, 65000

    for folder, reason in (("many", Reason.TOO_LARGE), ("large", Reason.TOO_LARGE)):
        edit(tmp_path / folder, grow)
        with pytest.raises(ScanError) as caught:
            read_volume(tmp_path / folder)
        assert caught.value.reason == reason
    assert MAX_VOXELS < 65000 * 65000 * 18

    def grow_a_little(data: pydicom.Dataset, _: int) -> None:
        data.Rows, data.Columns = 4000, 4000

    edit(tmp_path / "large", grow_a_little)
    with pytest.raises(ScanError) as caught:
        read_volume(tmp_path / "large")
    assert caught.value.reason == Reason.TRUNCATED


def test_a_damaged_file_is_blamed_on_its_own_series_alone(tmp_path: Path, head: Volume) -> None:
    good = write_series(head, tmp_path, tags={"SeriesNumber": 1})
    for path in tmp_path.iterdir():
        path.rename(path.with_name(f"good-{path.name}"))
    bad = write_series(head, tmp_path, tags={"SeriesNumber": 2})
    path = tmp_path / "IM00003.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(bad.encode()) + len(bad) + 20])
    assert read_volume(f"{tmp_path}#{good}").shape == head.shape
    with pytest.raises(ScanError, match="damaged"):
        read_volume(f"{tmp_path}#{bad}")


def test_a_folder_that_may_not_be_listed_is_one_clear_line(tmp_path: Path, head: Volume, monkeypatch) -> None:
    write_series(head, tmp_path)

    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("toolkit.scans.dicom.os.scandir", closed)
    with pytest.raises(ScanError, match="you may not read it; ask whom it belongs to") as caught:
        read_volume(tmp_path)
    assert caught.value.reason == Reason.NO_PERMISSION


def test_a_report_is_no_image(tmp_path: Path, head: Volume) -> None:
    assert read_header(Path(get_testdata_file("reportsi.dcm"))) is None
    write_series(head, tmp_path)
    (tmp_path / "report").write_bytes(Path(get_testdata_file("reportsi.dcm")).read_bytes())
    assert read_volume(tmp_path).shape == head.shape


def test_a_reader_says_nothing_of_what_it_read(tmp_path: Path, head: Volume, capfd: pytest.CaptureFixture) -> None:
    write_series(head, tmp_path)
    for path in tmp_path.iterdir():  # a value that pydicom warns of, with the value in its warning
        path.write_bytes(path.read_bytes().replace(b"1.2.826.0", b"1.2.DOE.0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_volume(tmp_path).shape == head.shape
    assert "DOE" not in "".join(capfd.readouterr())
