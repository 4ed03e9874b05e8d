"""NIfTI: a header is believed only if the file bears it out, and a checksum only if it was read."""

import errno
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from toolkit.scans import nifti, read_volume
from toolkit.scans.audit.look import look
from toolkit.scans.labels import file_affine
from toolkit.scans.nifti import is_unplaced
from toolkit.scans.reasons import Reason, ScanError


@pytest.fixture
def image() -> nib.Nifti1Image:
    data = np.random.default_rng([3]).integers(0, 1000, (16, 15, 14)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([1.0, 1.5, 2.0, 1.0]))
    image.header.set_slope_inter(0.5, 10)
    return image


def reason_of(path: Path) -> Reason:
    with pytest.raises(ScanError) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_slope_and_intercept_are_applied(tmp_path: Path, image: nib.Nifti1Image) -> None:
    for kind, name in ((nib.Nifti1Image, "a.nii"), (nib.Nifti2Image, "b.nii.gz")):
        nib.save(kind.from_image(image), tmp_path / name)
        np.testing.assert_allclose(read_volume(tmp_path / name).array[0], image.get_fdata(), rtol=1e-6)


def test_sform_goes_before_qform_and_units_count(tmp_path: Path, image: nib.Nifti1Image) -> None:
    image.set_qform(np.diag([3.0, 3, 3, 1]), 1)
    image.set_sform(np.diag([2.0, 2, 2, 1]), 2)
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").spacing_mm == pytest.approx((2, 2, 2))
    image.set_sform(None, 0)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii").spacing_mm == pytest.approx((0.003,) * 3)


def test_a_header_without_orientation_is_known(tmp_path: Path, image: nib.Nifti1Image) -> None:
    nib.save(image, tmp_path / "a.nii")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "b.nii")
    assert [is_unplaced(tmp_path / name) for name in ("a.nii", "b.nii")] == [False, True]


def test_packed_data_under_a_plain_name_are_read_to_the_end(tmp_path: Path, image: nib.Nifti1Image) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(image.to_bytes()))
    assert "refused" not in look([([str(path)], str(path))])[0]
    assert not is_unplaced(path)
    np.testing.assert_allclose(file_affine(str(path)), image.affine)


@pytest.mark.parametrize(("dtype", "most"), [(np.int16, 1.7), (np.float32, 2.2)])
def test_a_packed_scan_is_never_in_memory_more_often_than_it_must(tmp_path: Path, dtype: type, most: float) -> None:
    data = np.random.default_rng([3]).integers(0, 9, (128, 128, 64)).astype(dtype)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii.gz")
    tracemalloc.start()
    volume = read_volume(tmp_path / "a.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most * volume.array.nbytes + (2 << 20)


def test_every_flipped_byte_of_a_gzip_file_is_seen(tmp_path: Path, image: nib.Nifti1Image) -> None:
    """All but those of gzip's own header that carry nothing: time, name, system."""
    whole = bytearray(gzip.compress(image.to_bytes(), mtime=0))
    path = tmp_path / "a.nii.gz"
    rng = np.random.default_rng([7])
    for place in [*rng.choice(np.arange(10, len(whole)), 40, replace=False), len(whole) - 6, len(whole) - 2]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert reason_of(path) in (Reason.CHECKSUM, Reason.TRUNCATED, Reason.UNREADABLE, Reason.INCONSISTENT)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_error_of_the_disk_is_none_of_the_file(
    tmp_path: Path, image: nib.Nifti1Image, name: str, monkeypatch
) -> None:
    def failing(*_: object) -> Iterator[bytes]:
        yield image.to_bytes()[:1000]
        raise OSError(errno.EIO, "Input/output error")

    nib.save(image, tmp_path / name)
    monkeypatch.setattr(nifti, "unpacked_chunks", failing)
    with pytest.raises(ScanError, match="Input/output error") as caught:
        read_volume(tmp_path / name)
    assert caught.value.reason == Reason.UNREADABLE
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 20, 300, -9, -1])
def test_a_cut_gzip_file_is_refused(tmp_path: Path, image: nib.Nifti1Image, kept: int) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image.to_bytes())[:kept])
    assert reason_of(tmp_path / "a.nii.gz") in (Reason.TRUNCATED, Reason.UNREADABLE)


@pytest.mark.parametrize(("extra", "reason"), [(b"", None), (b"more", Reason.INCONSISTENT)])
def test_a_file_longer_than_its_header_says_is_refused(
    tmp_path: Path, image: nib.Nifti1Image, extra: bytes, reason: Reason | None
) -> None:
    (tmp_path / "a.nii").write_bytes(image.to_bytes() + extra)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image.to_bytes() + extra))
    for path in sorted(tmp_path.iterdir()):
        if reason is None:
            read_volume(path)
        else:
            assert reason_of(path) == reason


def grown(image: nib.Nifti1Image, *shape: int) -> bytes:
    header = image.header.copy()
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["vox_offset"] = 352  # nibabel forgets it when it loads
    return header.binaryblock + bytes(4) + np.asarray(image.dataobj.get_unscaled()).tobytes()


@pytest.mark.parametrize(
    ("shape", "plain", "packed"),
    [
        ((4000, 4000, 3000), Reason.TOO_LARGE, Reason.TOO_LARGE),  # 100 GB
        ((30000, 30000, 30000), Reason.TOO_LARGE, Reason.TOO_LARGE),
        ((1000, 1000, 1000), Reason.TRUNCATED, Reason.INCONSISTENT),  # more than deflate can hold in so little
        ((32, 15, 14), Reason.TRUNCATED, Reason.TRUNCATED),
        ((8, 15, 14), Reason.INCONSISTENT, Reason.INCONSISTENT),
        ((0, 15, 14), Reason.INCONSISTENT, Reason.INCONSISTENT),
    ],
)
def test_what_a_header_promises_is_checked_before_anything_is_allocated(
    tmp_path: Path, shape: tuple[int, ...], plain: Reason, packed: Reason
) -> None:
    data = np.random.default_rng([3]).integers(0, 1000, (16, 15, 14)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "source.nii")
    content = grown(nib.load(tmp_path / "source.nii"), *shape)
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    tracemalloc.start()
    assert reason_of(tmp_path / "a.nii") == plain
    assert reason_of(tmp_path / "a.nii.gz") == packed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_bomb_is_not_unpacked(tmp_path: Path, image: nib.Nifti1Image) -> None:
    """A small header in front of gigabytes of zeros: reading stops soon after what was promised."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = packer.compress(image.to_bytes())
    content += b"".join(packer.compress(bytes(1 << 24)) for _ in range(4)) + packer.flush()
    (tmp_path / "a.nii.gz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ScanError, match=r"the file has [\d,]+;") as caught:
        read_volume(tmp_path / "a.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert int(caught.value.detail.partition("has ")[2].partition(";")[0].replace(",", "")) < 20e6  # and not all 67e6


def test_a_pair_of_files_and_other_kinds_are_named(tmp_path: Path, image: nib.Nifti1Image) -> None:
    content = bytearray(image.to_bytes())
    content[344:348] = b"ni1\0"
    (tmp_path / "pair.nii").write_bytes(content)
    assert reason_of(tmp_path / "pair.nii") == Reason.UNSUPPORTED
    (tmp_path / "other.nii").write_bytes(b"\x89PNG" + bytes(1000))
    assert reason_of(tmp_path / "other.nii") == Reason.UNREADABLE
    (tmp_path / "plain.nii.gz").write_bytes(image.to_bytes())
    assert reason_of(tmp_path / "plain.nii.gz") == Reason.UNREADABLE


@pytest.mark.parametrize("where", [80, 84, 280, 300])
def test_a_spacing_that_two_fields_tell_apart_is_refused(tmp_path: Path, image: nib.Nifti1Image, where: int) -> None:
    """One flipped bit of an exponent in pixdim or srow of a plain file, which has no checksum."""
    image.set_sform(image.affine, 1)
    content = bytearray(image.to_bytes())
    content[where + 3] ^= 0x04
    (tmp_path / "a.nii").write_bytes(content)
    assert reason_of(tmp_path / "a.nii") == Reason.INCONSISTENT


def test_a_sheared_sform_is_refused(tmp_path: Path, image: nib.Nifti1Image) -> None:
    """What converters write of a CT whose gantry was tilted, 20 degrees here."""
    affine = image.affine.copy()
    affine[1, 2] = 2.0 * np.tan(np.radians(20))
    nib.save(nib.Nifti1Image(image.get_fdata(), affine), tmp_path / "a.nii")
    with pytest.raises(ScanError, match=r"20\.0 degrees off a right angle .* resample it to right angles") as caught:
        read_volume(tmp_path / "a.nii")
    assert caught.value.reason == Reason.SHEARED


def test_colour_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for data in (colour, np.zeros((4, 4, 4), np.complex64), np.zeros((4, 4, 1), np.int16)):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
        assert reason_of(tmp_path / "a.nii") == Reason.NOT_A_VOLUME
