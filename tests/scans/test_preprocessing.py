"""Resampling through affines and the intensity scale."""

import numpy as np
import pytest
from pydantic import ValidationError

from toolkit.errors import DataError
from toolkit.scans import Preprocessing, Volume, preprocess, resample
from toolkit.scans.preprocessing import foreground_mask, grid_for


def world_of(volume: Volume) -> np.ndarray:
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    return indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def test_resampling_keeps_every_point_of_the_world(ramp: Volume) -> None:
    grid = Volume(np.zeros((1, 8, 9, 10), np.float32), np.diag([2.2, 2.1, 1.9, 1.0]))
    grid.affine[:3, 3] = [-4.0, 12.0, 29.0]
    expected = world_of(grid) @ [1.0, 2.0, -0.5] + 100
    np.testing.assert_allclose(resample(ramp, grid).array[0], expected, rtol=2e-4)


def test_a_coarser_grid_averages_instead_of_picking() -> None:
    noise = Volume(np.random.default_rng([0]).normal(size=(1, 40, 40, 40)).astype(np.float32), np.eye(4))
    coarse = resample(noise, grid_for(noise, (4.0, 4.0, 4.0)))
    assert coarse.array[:, 2:-2, 2:-2, 2:-2].std() < 0.15  # 1 if single voxels were picked, 1/8 for plain means


def test_labels_are_never_mixed(ramp: Volume) -> None:
    ids = Volume(np.random.default_rng([0]).choice([0.0, 3.0, 90.0], (1, 20, 16, 12)).astype(np.float32), ramp.affine)
    assert set(np.unique(resample(ids, grid_for(ids, (2.0, 2.0, 2.0)), labels=True).array)) <= {
        0.0,
        3.0,
        90.0,
    }


def test_the_grid_covers_the_scan_from_face_to_face(ramp: Volume) -> None:
    grid = grid_for(ramp, (3.0, 4.0, 6.0))
    assert grid.shape == (10, 8, 6)
    np.testing.assert_allclose(grid.affine @ [-0.5, -0.5, -0.5, 1], ramp.affine @ [-0.5, -0.5, -0.5, 1])


def test_percentiles_of_the_foreground_become_0_and_1() -> None:
    array = np.zeros((1, 20, 20, 20), np.float32)
    array[0, 5:15, 5:15, 5:15] = np.linspace(100, 300, 1000).reshape(10, 10, 10)
    out = preprocess(Volume(array, np.diag([2.0, 2, 2, 1])), Preprocessing(intensity_percentiles=(10, 90))).array
    inside = out[array > 0]
    assert (inside == 0).mean() == pytest.approx(0.1, abs=0.005)
    assert (inside == 1).mean() == pytest.approx(0.1, abs=0.005)
    assert out[array == 0].max() == 0
    assert np.median(inside) == pytest.approx(0.5, abs=0.01)


def test_the_scale_of_the_raw_intensities_does_not_matter(textured: np.ndarray) -> None:
    one = preprocess(Volume(textured, np.eye(4)), Preprocessing())
    other = preprocess(Volume(textured * 1000, np.eye(4)), Preprocessing())
    np.testing.assert_allclose(one.array, other.array, atol=1e-5)
    assert one.spacing_mm == pytest.approx((2.0, 2.0, 2.0))


def test_a_mask_overrides_the_foreground_rule(textured: np.ndarray) -> None:
    mask = np.zeros((20, 22, 24), bool)
    mask[:10] = True
    out = preprocess(Volume(textured, np.eye(4)), Preprocessing(), mask=mask)
    assert (out.array[0, 10:] == 0).all()
    assert (out.array[0, :10] > 0).mean() > 0.9


def test_otsu_parts_two_tissues() -> None:
    rng = np.random.default_rng([0])
    truth = rng.random((1, 20, 20, 20)) > 0.7
    array = np.where(truth, 100.0, 10.0) + rng.normal(0, 5, truth.shape)
    assert (foreground_mask(array, "otsu") == truth[0]).mean() > 0.999


@pytest.mark.parametrize(("value", "message"), [(0.0, "no foreground"), (7.0, "one intensity only")])
def test_an_empty_scan_is_refused(value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preprocess(Volume(np.full((1, 8, 8, 8), value, np.float32), np.eye(4)), Preprocessing())


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 50), (0, 101)])
def test_percentiles_that_make_no_scale_are_refused(percentiles: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(intensity_percentiles=percentiles)
