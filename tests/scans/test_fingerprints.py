"""Copies of a scan are near each other in whatever file and on whatever grid, and other scans are not."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from toolkit.errors import DataError
from toolkit.scans import Volume, read_volume
from toolkit.scans.cohort import write_series
from toolkit.scans.fingerprints import NEAR, NUM_BITS, clusters, fingerprint, near_any, similarity
from toolkit.scans.preprocessing import grid_for, resample

RECORDED = (
    "3cda89820ab4865afe85d0f653e013794a6ec307d2f18b9c84dc775de449b1b9af561ab53a99ce4825d2dad303cd0630"
    "d2c9fbfe544b6a25597aed7887131ffde286adb6c54f62b44db614ef5e83938bd7e94d897bc55ed800ee40633998c23e"
    "a6b31ba011563291d13c4807640e01d56662990d06711e2add33ac3ce27e24a1b53a5f3a19cda1a770898ff2420e433d"
    "b8ea33bb52b433905634cba578cb85c720164c77ee5bac94b812d71ce947d105ef4e237c3328988b32d15bff8e7d5b69"
)


def body(seed: int, *, side: int = 72, spacing_mm: float = 2.0) -> Volume:
    """A ball of random tissue of several scales before an empty background, as a scanner places it."""
    rng = np.random.default_rng([seed])
    tissue = sum(
        ndimage.gaussian_filter(rng.normal(size=(side, side, side)), sigma) * sigma**1.5 for sigma in (1, 2, 5)
    )
    radius = np.sqrt((np.square(np.indices((side, side, side)) - side / 2)).sum(axis=0))
    array = np.where(radius < 0.42 * side, 300 + 100 * tissue / tissue.std(), 0)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [-70.0, -83.0, 12.5]
    return Volume(array.clip(0)[None].astype(np.float32), affine)


@pytest.fixture(scope="module")
def scan() -> Volume:
    return body(0)


def cropped(volume: Volume, low: tuple[int, int, int], high: tuple[int, int, int]) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [*low, 1.0])[:3]
    i, j, k = (slice(a, n - b) for a, b, n in zip(low, high, volume.shape, strict=True))
    return Volume(volume.array[:, i, j, k], affine)


def padded(volume: Volume, width: int) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [-width, -width, -width, 1.0])[:3]
    return Volume(np.pad(volume.array, [(0, 0)] + 3 * [(width, width)]), affine)


COPIES = {
    "in 16 bits": lambda v: Volume(np.rint(v.array * 3).astype(np.int16).astype(np.float32), v.affine),
    "brighter, with more contrast": lambda v: Volume(2.5 * v.array + 40, v.affine),
    "gamma": lambda v: Volume(v.array**1.3, v.affine),
    "noisy": lambda v: Volume(
        v.array + 25 * np.random.default_rng([1]).normal(size=v.array.shape).astype(np.float32), v.affine
    ),
    "shaded": lambda v: Volume(
        v.array * np.linspace(0.75, 1.25, v.shape[0], dtype=np.float32)[:, None, None], v.affine
    ),
    "3 mm": lambda v: resample(v, grid_for(v, (3.0, 3.0, 3.0))),
    "thick slices": lambda v: resample(v, grid_for(v, (1.5, 1.5, 4.0))),
    "cropped": lambda v: cropped(v, (0, 9, 0), (4, 0, 12)),
    "padded": lambda v: padded(v, 11),
    "without its origin": lambda v: Volume(v.array, np.diag([2.0, 2.0, 2.0, 1.0])),
}


@pytest.mark.parametrize("change", list(COPIES))
def test_a_copy_is_near(scan: Volume, change: str) -> None:
    assert similarity(fingerprint(scan), fingerprint(COPIES[change](scan))) > NEAR + 0.02


def test_files_of_a_scan_are_near(scan: Volume, tmp_path) -> None:
    own = fingerprint(scan)
    whole = Volume(np.rint(scan.array), scan.affine)
    nib.save(nib.Nifti1Image(whole.array[0].astype(np.int16), whole.affine), tmp_path / "a.nii.gz")
    write_series(whole, tmp_path / "dicom")
    assert similarity(own, fingerprint(read_volume(tmp_path / "a.nii.gz"))) > 0.98
    assert similarity(own, fingerprint(read_volume(tmp_path / "dicom"))) > 0.98


def test_another_body_is_not_near(scan: Volume) -> None:
    assert similarity(fingerprint(scan), fingerprint(body(1))) < 0.5


def test_another_anatomy_of_the_same_making_is_not_near(scan: Volume) -> None:
    """The scan pulled about by 8 mm, smoothly: what a person's own anatomy differs by from another's."""
    rng = np.random.default_rng([2])
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=scan.shape), 8) for _ in range(3)])
    field *= 4 / np.sqrt(np.square(field).sum(axis=0).mean())
    moved = ndimage.map_coordinates(scan.array[0], np.indices(scan.shape) + field, order=1)
    assert similarity(fingerprint(scan), fingerprint(Volume(moved[None], scan.affine))) < NEAR - 0.1


def test_fingerprints_stay_what_they_are() -> None:
    """They lie in manifests and encoders: another fewlabel has to find the same again."""
    x, y, z = np.indices((40, 40, 40)) - 19.5
    waves = np.sin(x * y / 40) + np.cos(0.7 * y + 0.1 * z * z) + np.sin(0.9 * z - 0.05 * x * x)
    array = np.where(x * x + y * y + z * z < 300, 5 + waves, 0)
    found = fingerprint(Volume(array[None].astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])))
    assert len(found) == 2 * NUM_BITS // 4
    assert similarity(found, RECORDED) > 0.999


@pytest.mark.parametrize("shape", [(20, 20, 20), (1, 1, 1), (64, 64, 1)])
def test_a_scan_without_structure_has_none(shape: tuple[int, int, int]) -> None:
    assert fingerprint(Volume(np.full((1, *shape), 7, np.float32), np.eye(4))) == ""


def test_clusters_are_chains_and_name_their_first() -> None:
    rng = np.random.default_rng([3])
    bits = rng.integers(0, 256, (3, 2 * NUM_BITS // 8), dtype=np.uint8)

    def changed(row: np.ndarray, start: int) -> np.ndarray:
        out = row.copy()
        for half in (0, NUM_BITS // 8):
            out[half + start : half + start + 16] ^= 255  # a sixth of each hash: similarity cos(pi / 6) = .87
        return out

    middle = changed(bits[0], 0)
    rows = [bits[0], bits[1], changed(middle, 32), middle, bits[2]]
    prints = [row.tobytes().hex() for row in rows] + [""]
    assert similarity(prints[0], prints[3]) == pytest.approx(np.cos(np.pi / 6))
    assert similarity(prints[0], prints[2]) == pytest.approx(0.5)
    assert clusters(prints).tolist() == [0, 1, 0, 0, 4, 5]  # 0 and 2 are near through 3 only
    assert near_any(prints, [prints[3], ""]).tolist() == [True, False, True, True, False, False]
    assert near_any(prints, []).tolist() == [False] * 6
    assert clusters([]).tolist() == []


@pytest.mark.parametrize("wrong", ["abc", "z" * (NUM_BITS // 2), "00" * NUM_BITS])
def test_what_is_no_fingerprint_is_refused(wrong: str) -> None:
    with pytest.raises(DataError, match=f"{len(wrong)} characters, is no fingerprint of 384 hex digits"):
        clusters(["", wrong])
    assert similarity("", "") == 0
