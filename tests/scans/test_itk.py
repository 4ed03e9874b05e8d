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
