"""Resampling through affines, against MONAI's, and the way of a point through the store and back to a file."""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing, SpatialResample
from scipy import ndimage
from scipy.spatial.transform import Rotation

from toolkit.scans import Preprocessing, Volume, VolumeStore, preprocess, read_volume, resample
from toolkit.scans.resampling import grid_for


def world_of(volume: Volume) -> np.ndarray:
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    return indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def placed(angles: tuple[float, float, float], spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "finer": Volume(np.zeros((1, 70, 40, 30), np.float32), placed((0, 0, 0), (0.8, 1.1, 1.2), (-3, -4, 2))),
    "coarser": Volume(np.zeros((1, 14, 15, 13), np.float32), placed((0, 0, 0), (3, 2.5, 3.1), (1, -4, 2))),
    "oblique": Volume(np.zeros((1, 36, 30, 33), np.float32), placed((20, -15, 40), (1.4, 1.5, 2.2), (5, -9, 1))),
    "elsewhere": Volume(np.zeros((1, 36, 8, 8), np.float32), placed((0, 0, 0), (1, 1, 1), (900, 0, 0))),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("labels", [False, True])
def test_voxels_are_those_of_monai_whatever_the_slabs(name: str, labels: bool, textured: np.ndarray) -> None:
    like = GRIDS[name]
    array = np.concatenate([textured, textured[:, ::-1]]) * 100
    array = np.round(array) if labels else array
    affine = placed((5, 3, -8), (1.0, 1.1, 1.3), (0, -2, 4))
    smoothed = array
    ratio = np.asarray(like.spacing_mm) / Volume(array, affine).spacing_mm
    if not labels:  # a point spread as wide as the coarser voxel: widths at half height add in squares
        sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / 2.355
        if sigma.max() > 0.1:
            smoothed = np.stack([ndimage.gaussian_filter(channel, sigma, mode="nearest") for channel in array])
    image = MetaTensor(torch.from_numpy(np.ascontiguousarray(smoothed)), affine=torch.from_numpy(affine))
    onto = {"dst_affine": torch.from_numpy(like.affine), "spatial_size": like.shape}
    transform = SpatialResample(mode="nearest" if labels else "bilinear", padding_mode="border", dtype=np.float64)
    inside = SpatialResample(mode="nearest", padding_mode="zeros", dtype=np.float64)(torch.ones_like(image), **onto)
    expected = transform(image, **onto).numpy() * inside.numpy()
    found = resample(Volume(array, affine), like, labels=labels).array
    assert found.dtype == np.float32
    assert (name == "elsewhere") == (not found.any())
    np.testing.assert_allclose(found, expected, atol=2e-2 if not labels else 0)  # 2.355 is rounded, of values to 100
    used_up = resample(Volume(array.copy(), affine), like, labels=labels, overwrite=True).array
    np.testing.assert_array_equal(used_up, found)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the memory to the end")
def test_a_scan_that_is_needed_no_more_is_given_back_as_it_is_used_up() -> None:
    scan = Volume(np.ones((2, 90, 64, 64), np.float32), np.eye(4))
    grid = Volume(np.zeros((1, 40, 64, 64), np.float32), placed((0, 0, 0), (1, 1, 1), (20, 0, 0)))
    assert (resample(scan, grid).array == 1).all()
    assert (scan.array == 1).all()
    assert (resample(scan, grid, overwrite=True).array == 1).all()
    assert not scan.array.any(axis=(2, 3))[:, 1:-1].any(), "its planes hold whole pages, and none is left"


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.9, 2.0), (4.0, 4.0, 4.0), (0.94, 3.0, 12.0)])
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -15, 40)])
def test_a_constant_scan_stays_constant_to_its_faces(angles: tuple[float, ...], spacing: tuple[float, ...]) -> None:
    scan = Volume(np.full((1, 12, 13, 6), 40, np.float32), placed(angles, (0.94, 1.1, 5.0), (7, -3, 20)))
    grid = grid_for(scan, spacing)
    found = resample(scan, grid, outside=-1000.0).array[0]
    faces_mm = np.array(scan.shape) * scan.spacing_mm
    centres_mm = np.moveaxis(np.indices(grid.shape) + 0.5, 0, -1) * spacing  # from the outer face of the first voxel
    inside = (centres_mm <= faces_mm + 1e-9).all(axis=-1)
    np.testing.assert_allclose(found[inside], 40, rtol=1e-6)
    np.testing.assert_array_equal(found[~inside], -1000)


def test_finer_slices_are_those_of_monai_up_to_the_faces(textured: np.ndarray) -> None:
    scan = Volume(textured * 100, placed((20, -15, 40), (1.0, 1.2, 5.0), (7, -3, 20)))
    image = MetaTensor(torch.from_numpy(scan.array), affine=torch.from_numpy(scan.affine))
    spacing = Spacing((1.0, 1.2, 1.0), mode="bilinear", padding_mode="border", scale_extent=True, dtype=np.float64)
    expected = spacing(image)
    found = resample(scan, Volume(np.zeros(expected.shape, np.float32), expected.affine.numpy()), outside=-1000.0)
    np.testing.assert_allclose(found.array, expected.numpy(), atol=1e-3)


def test_a_head_in_a_wider_grid_has_the_outside_around_its_field_of_view() -> None:
    head = Volume(np.full((1, 8, 8, 4), 40, np.float32), placed((0, 0, 0), (1, 1, 5), (0, 0, 0)))
    like = Volume(np.zeros((1, 8, 8, 30), np.float32), placed((0, 0, 0), (1, 1, 1), (0, 0, -5)))
    planes = resample(head, like, outside=-1000.0).array[0].mean(axis=(0, 1))
    heights_mm = np.arange(30) - 5.0
    np.testing.assert_allclose(planes, np.where((heights_mm >= -2.5) & (heights_mm <= 17.5), 40, -1000), rtol=1e-6)


def test_resampling_keeps_every_point_of_the_world(ramp: Volume) -> None:
    grid = Volume(np.zeros((1, 8, 9, 10), np.float32), np.diag([2.2, 2.1, 1.9, 1.0]))
    grid.affine[:3, 3] = [-4.0, 12.0, 29.0]
    expected = world_of(grid) @ [1.0, 2.0, -0.5] + 100
    np.testing.assert_allclose(resample(ramp, grid).array[0], expected, rtol=2e-4)


def test_a_coarser_grid_averages_instead_of_picking() -> None:
    noise = Volume(np.random.default_rng([0]).normal(size=(1, 40, 40, 40)).astype(np.float32), np.eye(4))
    coarse = resample(noise, grid_for(noise, (4.0, 4.0, 4.0)))
    assert coarse.array[:, 2:-2, 2:-2, 2:-2].std() < 0.15  # 1 if single voxels were picked, 1/8 for plain means


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 3.0), (4.0, 4.0, 4.0), (0.7, 0.9, 2.0)])
def test_whole_numbers_give_what_float32_gives(ramp: Volume, spacing: tuple[float, float, float]) -> None:
    whole = Volume(np.random.default_rng([0]).integers(-999, 999, (2, 20, 16, 12), dtype=np.int16), ramp.affine)
    expected = resample(Volume(whole.array.astype(np.float32), ramp.affine), grid_for(ramp, spacing))
    np.testing.assert_array_equal(resample(whole, grid_for(ramp, spacing)).array, expected.array)


def test_labels_are_never_mixed(ramp: Volume) -> None:
    ids = Volume(np.random.default_rng([0]).choice([0.0, 3.0, 90.0], (1, 20, 16, 12)).astype(np.float32), ramp.affine)
    found = np.unique(resample(ids, grid_for(ids, (2.0, 2.0, 2.0)), labels=True).array)
    assert set(found) == {0.0, 3.0, 90.0}


def test_the_grid_covers_the_scan_from_face_to_face(ramp: Volume) -> None:
    grid = grid_for(ramp, (3.0, 4.0, 6.0))
    assert grid.shape == (10, 8, 6)
    np.testing.assert_allclose(grid.affine @ [-0.5, -0.5, -0.5, 1], ramp.affine @ [-0.5, -0.5, -0.5, 1])


@pytest.mark.parametrize("angles", [(0, 0, 0), (180, 0, 0), (0, 90, 0), (12, -7, 160)])
@pytest.mark.parametrize("margin_mm", [None, 0.0, 4.0])
def test_from_file_to_store_to_file_a_point_stays_where_it_is(
    tmp_path: Path, angles: tuple[float, float, float], margin_mm: float | None
) -> None:
    """A bright ball far off the middle of an acquisition of any orientation is found again to 1e-3 mm."""
    affine = placed(angles, (1.5, 1.5, 2.0), (-30, 12, 55))
    centre = np.array([30.0, 14.0, 20.0])
    distance = np.square((np.moveaxis(np.indices((44, 32, 28)), 0, -1) - centre) * (1.5, 1.5, 2.0)).sum(axis=-1)
    ball = np.exp(-distance / 20)
    nib.save(nib.Nifti1Image(np.where(ball > 1e-4, ball, 0).astype(np.float32), affine), tmp_path / "ball.nii.gz")
    volume = read_volume(tmp_path / "ball.nii.gz")
    spec = Preprocessing(
        spacing_mm=volume.spacing_mm, intensity_percentiles=(0, 100), crop_margin_mm=margin_mm
    )  # as it is: interpolation would blur what is measured here
    stored = VolumeStore(tmp_path / "store").put("k", preprocess(volume, spec))
    back = stored.load()
    nib.save(nib.Nifti1Image(back.array[0], back.affine), tmp_path / "back.nii")
    image = nib.load(tmp_path / "back.nii")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), [2.0, 1.5, 1.5] if angles[1] == 90 else [1.5, 1.5, 2.0])
    assert (sorted(image.shape) == [28, 32, 44]) == (margin_mm is None)
    found = image.affine @ [*ndimage.center_of_mass(image.get_fdata()), 1]
    np.testing.assert_allclose(found[:3], (affine @ [*centre, 1])[:3], atol=1e-3)
