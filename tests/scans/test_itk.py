"""NRRD and MetaImage: headers held against their data files, which lie beside them and nowhere else."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from toolkit.scans import read_volume
from toolkit.scans.itk import is_unplaced
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.reasons import Reason, ScanError


@pytest.fixture
def image() -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng([3]).integers(0, 999, (9, 10, 11)).astype(np.int16))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-3.0, 4.0, 5.0))
    return image


KINDS = [("a.nrrd", True), ("a.nrrd", False), ("a.nhdr", True), ("a.nhdr", False), ("a.mha", True), ("a.mha", False),
         ("a.mhd", True), ("a.mhd", False)]  # fmt: skip


def reason_of(path: Path) -> Reason:
    with pytest.raises(ScanError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def data_file(folder: Path, name: str) -> Path:
    """The file with the voxels."""
    return next((path for path in folder.iterdir() if "raw" in path.suffix or path.suffix == ".gz"), folder / name)


@pytest.mark.parametrize(("name", "packed"), KINDS)
def test_all_kinds_give_the_same_volume(tmp_path: Path, image: sitk.Image, name: str, packed: bool) -> None:
    sitk.WriteImage(image, tmp_path / name, useCompression=packed)
    volume = read_volume(tmp_path / name)
    assert volume.spacing_mm == (1.0, 1.5, 2.0)
    assert not is_unplaced(tmp_path / name)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).transpose(2, 1, 0)[::-1, ::-1])
    np.testing.assert_allclose(volume.affine @ [10, 9, 0, 1], [3, -4, 5, 1])  # the origin, from LPS to RAS
    assert len(scan_files(str(tmp_path / name))) == (2 if name.endswith(("hd", "hdr")) else 1)


@pytest.mark.parametrize(("name", "packed"), KINDS)
@pytest.mark.parametrize("is_big", [False, True])
def test_plain_files_are_in_memory_once(
    tmp_path: Path, image: sitk.Image, name: str, packed: bool, is_big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ITK would hold all voxels beside those that are put in order; Python's own watch on memory does not see it."""
    expected = sitk.GetArrayFromImage(image).transpose(2, 1, 0)[::-1, ::-1]
    if is_big:
        image = sitk.GetImageFromArray(sitk.GetArrayFromImage(image).byteswap())
    sitk.WriteImage(image, tmp_path / name, useCompression=packed)
    if is_big:
        content = (tmp_path / name).read_bytes()
        for little, big in ((b"endian: little", b"endian: big"), (b"ByteOrderMSB = False", b"ByteOrderMSB = True")):
            content = content.replace(little, big)
        (tmp_path / name).write_bytes(content)
    monkeypatch.delattr(sitk, "GetArrayViewFromImage")
    np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], expected)


@pytest.mark.parametrize("name", ["text.nrrd", "text.mha", "vector.nrrd", "vector.mha"])
def test_other_files_are_left_to_itk(tmp_path: Path, image: sitk.Image, name: str) -> None:
    array = sitk.GetArrayFromImage(image)
    if name.startswith("vector"):
        sitk.WriteImage(sitk.Compose(image, 2 * image), tmp_path / name, useCompression=True)
    else:
        numbers = " ".join(map(str, array.ravel()))
        nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 11 10 9\nspacings: 1 1 1\nencoding: ascii\n\n"
        meta = "NDims = 3\nBinaryData = False\nDimSize = 11 10 9\nElementSpacing = 1 1 1\n"
        meta += "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        (tmp_path / name).write_text((nrrd if name.endswith("nrrd") else meta) + numbers + "\n")
    found = read_volume(tmp_path / name).array
    assert len(found) == (2 if name.startswith("vector") else 1)
    for number, channel in enumerate(found, start=1):
        np.testing.assert_array_equal(channel[::-1, ::-1], number * array.transpose(2, 1, 0))


@pytest.mark.parametrize(("name", "packed"), KINDS)
def test_a_cut_or_lengthened_data_file_is_refused(tmp_path: Path, image: sitk.Image, name: str, packed: bool) -> None:
    sitk.WriteImage(image, tmp_path / name, useCompression=packed)
    voxels = data_file(tmp_path, name)
    whole = voxels.read_bytes()
    voxels.write_bytes(whole[:-100])
    assert reason_of(tmp_path / name) == Reason.TRUNCATED
    if not packed:
        voxels.write_bytes(whole + b"more")
        assert reason_of(tmp_path / name) == Reason.INCONSISTENT


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_flipped_bytes_of_packed_voxels_are_seen(tmp_path: Path, image: sitk.Image, name: str) -> None:
    sitk.WriteImage(image, tmp_path / name, useCompression=True)
    voxels = data_file(tmp_path, name)
    whole = voxels.read_bytes()
    rng = np.random.default_rng([5])
    for place in rng.integers(len(whole) - 1000, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        voxels.write_bytes(damaged)
        assert reason_of(tmp_path / name) in (Reason.CHECKSUM, Reason.TRUNCATED, Reason.INCONSISTENT)


@pytest.mark.parametrize(("name", "packed"), KINDS)
def test_100_gb_are_not_believed(tmp_path: Path, image: sitk.Image, name: str, packed: bool) -> None:
    sitk.WriteImage(image, tmp_path / name, useCompression=packed)
    content = (tmp_path / name).read_bytes()
    for size, reasons in (
        (b"4000 4000 3000", {Reason.TOO_LARGE}),
        (b"900 900 900", {Reason.TRUNCATED, Reason.INCONSISTENT}),
    ):
        (tmp_path / name).write_bytes(re.sub(rb"11 10 9", size, content))
        tracemalloc.start()
        assert reason_of(tmp_path / name) in reasons
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.raw", "..\\secret.raw", "link/secret.raw", "gone.raw"])
def test_a_header_cannot_point_out_of_its_folder(tmp_path: Path, image: sitk.Image, name: str, place: str) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    for secret in (tmp_path / "secret.raw", tmp_path / "elsewhere" / "secret.raw"):
        secret.write_bytes(bytes(9 * 10 * 11 * 2))
    sitk.WriteImage(image, folder / name, useCompression=False)
    content = (folder / name).read_text()
    (folder / name).write_text(content.replace("a.raw", place))
    assert content.count("a.raw") == 1
    assert reason_of(folder / name) == (Reason.TRUNCATED if place == "gone.raw" else Reason.OUTSIDE)


def test_slices_in_files_of_their_own_are_read(tmp_path: Path, image: sitk.Image) -> None:
    array = sitk.GetArrayFromImage(image)
    for number, plane in enumerate(array, start=1):
        (tmp_path / f"s{number:02d}.raw").write_bytes(plane.tobytes())
    head = "NRRD0004\ntype: signed short int\ndimension: 3\nsizes: 11 10 9\nendian: little\nencoding: raw\n"
    head += "spacings: 1 1 1\n"
    (tmp_path / "numbered.nhdr").write_text(head + "data file: s%02d.raw 1 9 1\n")
    names = "\n".join(f"s{number:02d}.raw" for number in range(1, 10))
    (tmp_path / "listed.nhdr").write_text(head + f"data file: LIST\n{names}\n")
    for name in ("numbered.nhdr", "listed.nhdr"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array[0][::-1, ::-1], array.transpose(2, 1, 0))
        assert len(scan_files(str(tmp_path / name))) == 10
    assert is_unplaced(tmp_path / "listed.nhdr")
    before = content_hash(scan_files(str(tmp_path / "listed.nhdr")))
    (tmp_path / "s05.raw").write_bytes(bytes(220))
    assert content_hash(scan_files(str(tmp_path / "listed.nhdr"))) != before


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"NRRD", b"NRRD0004\nsizes: x\n\n", b"NDims = 3\n", bytes(500)])
def test_no_header_at_all(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason_of(tmp_path / name) == (Reason.UNREADABLE if content else Reason.TRUNCATED)


NRRD = "NRRD0004\ntype: short\ndimension: {}\nsizes: {}\nendian: little\nencoding: raw\n{}\n"
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{}DimSize = 4 5 6\n" \
       "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"  # fmt: skip
LPS = "space: left-posterior-superior\nspace directions: "


@pytest.mark.parametrize(
    "said",
    [
        "",  # what pynrrd writes unless it is told
        "spacings: nan nan nan\n",
        "spacings: 1 2 NaN\n",
        "thicknesses: 1 2 3\n",
        LPS + "none none none\n",
        LPS + "(1,0,0) (0,1,0) none\n",
        LPS + "(1,0,0) (0,1,0) (nan,nan,nan)\n",
    ],
)
def test_a_spacing_that_is_not_said_is_not_taken_for_1_mm(tmp_path: Path, said: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(3, "4 5 6", said).encode() + bytes(240))
    assert reason_of(tmp_path / "a.nrrd") == Reason.NO_POSITION
    (tmp_path / "a.mha").write_bytes(META.format("").encode() + bytes(240))
    assert reason_of(tmp_path / "a.mha") == Reason.NO_POSITION


@pytest.mark.parametrize("said", ["spacings: nan 1 2 3\n", LPS + "none (1,0,0) (0,2,0) (0,0,3)\n"])
def test_components_have_no_spacing_of_their_own(tmp_path: Path, said: str) -> None:
    kinds = "kinds: vector domain domain domain\n"
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(4, "2 4 5 6", said + kinds).encode() + bytes(480))
    assert read_volume(tmp_path / "a.nrrd").spacing_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("said", ["ElementSpacing = 1 2 3\n", "ElementSize = 1 2 3\n"])
def test_a_metaimage_says_its_spacing_in_either_way(tmp_path: Path, said: str) -> None:
    (tmp_path / "a.mha").write_bytes(META.format(said).encode() + bytes(240))
    assert read_volume(tmp_path / "a.mha").spacing_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(("unit", "is_read"), [("mm", True), ("Millimeters", True), ("um", False), ("cm", False)])
def test_space_units_other_than_millimetres_are_refused(tmp_path: Path, unit: str, is_read: bool) -> None:
    said = LPS + f'(1,0,0) (0,2,0) (0,0,3)\nspace units: "{unit}" "{unit}" "{unit}"\n'
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(3, "4 5 6", said).encode() + bytes(240))
    if is_read:
        assert read_volume(tmp_path / "a.nrrd").spacing_mm == (1.0, 2.0, 3.0)
    else:
        with pytest.raises(ScanError, match=f"space units are {unit}; write it in mm"):
            read_volume(tmp_path / "a.nrrd")


def test_sheared_directions_are_refused(tmp_path: Path) -> None:
    sheared = NRRD.format(3, "4 5 6", LPS + "(1,0,0) (0,1,0) (0,0.5,3)\n")
    (tmp_path / "a.nrrd").write_bytes(sheared.encode() + bytes(240))
    assert reason_of(tmp_path / "a.nrrd") == Reason.SHEARED
    sheared = META.format("TransformMatrix = 1 0 0 0 1 0 0 0.5 1\nElementSpacing = 1 1 3\n")
    (tmp_path / "a.mha").write_bytes(sheared.encode() + bytes(240))
    assert reason_of(tmp_path / "a.mha") == Reason.SHEARED
