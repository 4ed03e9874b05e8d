"""The intensity scale, the foreground and the crop, against MONAI's transforms with the same parameters."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, NormalizeIntensity, ScaleIntensityRange, ScaleIntensityRangePercentiles
from pydantic import ValidationError

from toolkit.errors import DataError
from toolkit.scans import Preprocessing, Volume, preprocess, resample
from toolkit.scans.preprocessing import foreground_mask


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


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_the_raw_scan_is_overwritten_on_demand_alone(textured: np.ndarray, spacing_mm: float) -> None:
    raw, spec = textured.copy(), Preprocessing(spacing_mm=(spacing_mm,) * 3)
    kept = preprocess(Volume(raw, np.eye(4)), spec)
    np.testing.assert_array_equal(raw, textured)
    found = preprocess(Volume(raw, np.eye(4)), spec, overwrite=True)
    np.testing.assert_array_equal(found.array, kept.array)
    assert np.shares_memory(found.array, raw) == (spacing_mm == 1)


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


AS_IT_IS: dict[str, Any] = {"spacing_mm": (1, 1, 1)}


@pytest.fixture
def ct(textured: np.ndarray) -> Volume:
    """A body from lung to bone in air, in Hounsfield units."""
    array = np.full_like(textured, -1000)
    body = array[:, 8:30, 10:40, 5:45]
    body[:] = textured[:, 8:30, 10:40, 5:45] * 2300 - 900
    return Volume(array, np.eye(4))


@pytest.fixture
def mr(textured: np.ndarray) -> Volume:
    """A head in air that is exactly 0."""
    array = np.zeros_like(textured)
    array[:, 8:30, 10:40, 5:45] = textured[:, 8:30, 10:40, 5:45] * 700 + 20
    return Volume(array, np.eye(4))


@pytest.mark.parametrize("intensity", ["window", "modality"])
@pytest.mark.parametrize("window_hu", [(-1000, 1000), (-160, 240)])
def test_a_window_is_that_of_monai(ct: Volume, intensity: str, window_hu: tuple[float, float]) -> None:
    spec = Preprocessing(**AS_IT_IS, intensity=intensity, window_hu=window_hu)
    expected = ScaleIntensityRange(*window_hu, 0, 1, clip=True)(ct.array)
    np.testing.assert_allclose(preprocess(ct, spec).array, expected, atol=1e-6)


def test_around_a_ct_is_air_and_not_water(ct: Volume) -> None:
    like = Volume(np.zeros((1, 40, 44, 48), np.float32), np.eye(4))
    like.affine[0, 3] = -10
    out = preprocess(ct, Preprocessing(intensity="window"), like=like).array
    assert (out[:, :10] == 0).all() and out[:, 20:30].max() > 0.5


def test_percentiles_are_those_of_monai(mr: Volume) -> None:
    inside = mr.array[mr.array > 0]
    expected = ScaleIntensityRangePercentiles(2, 98, 0, 1, clip=True)(inside)
    for intensity in ("percentiles", "modality"):
        spec = Preprocessing(**AS_IT_IS, intensity=intensity, intensity_percentiles=(2, 98))
        out = preprocess(mr, spec).array
        np.testing.assert_allclose(out[mr.array > 0], expected, atol=1e-6)
        assert (out[mr.array == 0] == 0).all()


def test_z_scores_are_those_of_monai_four_deviations_each_way(mr: Volume) -> None:
    zscores = NormalizeIntensity(nonzero=True)(mr.array.copy())  # works in place
    expected = np.where(mr.array > 0, np.clip(np.asarray(zscores) / 8 + 0.5, 0, 1), 0)
    out = preprocess(mr, Preprocessing(**AS_IT_IS, intensity="zscore")).array
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert 0 < expected.max() < 1  # nothing was clipped above


@pytest.mark.parametrize("margin_mm", [0.0, 3.0, 500.0])
def test_the_crop_is_that_of_monai_and_the_affine_follows(mr: Volume, margin_mm: float) -> None:
    affine = np.array([[1.5, 0, 0, 8], [0, 1.5, 0.0, -3], [0, 0, 1.5, 20], [0, 0, 0, 1]])
    spec = Preprocessing(spacing_mm=(1.5, 1.5, 1.5), crop_margin_mm=margin_mm)
    found = preprocess(Volume(mr.array, affine), spec)
    whole = preprocess(Volume(mr.array, affine), spec.model_copy(update={"crop_margin_mm": None}))
    image = MetaTensor(torch.from_numpy(whole.array), affine=torch.from_numpy(affine))
    margin = int(np.ceil(margin_mm / 1.5))
    crop = CropForeground(lambda x: torch.from_numpy(mr.array > 0), margin=margin, allow_smaller=True)
    expected = crop(image)
    np.testing.assert_allclose(found.array, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.affine, expected.affine.numpy())


def test_a_ct_is_cropped_to_the_body_although_all_of_it_counts(ct: Volume) -> None:
    noisy = ct.array + np.random.default_rng([0]).normal(0, 15, ct.array.shape).astype(np.float32)
    spec = Preprocessing(**AS_IT_IS, intensity="window", foreground="all", crop_margin_mm=0)
    found = preprocess(Volume(noisy, np.eye(4)), spec)
    assert np.abs(np.subtract(found.shape, (22, 30, 40))).max() <= 3
    assert np.abs(found.affine[:3, 3] - (8, 10, 5)).max() <= 3


def test_a_grid_of_others_is_never_cropped(mr: Volume) -> None:
    like = Volume(np.zeros((1, 40, 44, 48), np.float32), np.eye(4))
    assert preprocess(mr, Preprocessing(crop_margin_mm=0), like=like).shape == like.shape


def test_labels_follow_onto_the_cropped_grid(mr: Volume) -> None:
    """Each voxel has the label of the raw voxel that is nearest in the world."""
    affine = np.array([[0.9, 0, 0, 8], [0, 1.1, 0.1, -3], [0, -0.1, 1.3, 20], [0, 0, 0, 1]])
    ids = np.random.default_rng([0]).integers(0, 200, mr.shape)
    out = preprocess(Volume(mr.array, affine), Preprocessing(crop_margin_mm=1))
    found = resample(Volume(ids[None].astype(np.float32), affine), out, labels=True).array[0]
    assert found.shape == out.shape != mr.shape
    indices = np.stack(np.meshgrid(*map(np.arange, out.shape), indexing="ij"), -1)
    raw = (indices @ out.affine[:3, :3].T + out.affine[:3, 3] - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    inside = (raw > -0.5).all(axis=-1) & (raw < np.array(mr.shape) - 0.5).all(axis=-1)
    is_tie = (np.abs(raw % 1 - 0.5) < 1e-6).any(axis=-1)
    assert is_tie.mean() < 0.2
    i, j, k = np.rint(raw[inside & ~is_tie]).astype(int).T
    np.testing.assert_array_equal(found[inside & ~is_tie], ids[i, j, k])
    assert (found[~inside] == 0).all()


def test_preprocessing_leaves_the_raw_scan_alone(ct: Volume, mr: Volume) -> None:
    for volume, intensity in ((ct, "window"), (mr, "zscore"), (mr, "percentiles")):
        before = volume.array.copy()
        preprocess(volume, Preprocessing(**AS_IT_IS, intensity=intensity, crop_margin_mm=0))
        np.testing.assert_array_equal(volume.array, before)


def test_a_spec_saved_before_there_were_other_rules_means_what_it_meant() -> None:
    saved = {
        "spacing_mm": [2.0, 2.0, 2.0],
        "orientation": "RAS",
        "intensity_percentiles": [1.0, 99.0],
        "foreground": "positive",
    }
    spec = Preprocessing.model_validate(saved)
    assert (spec.intensity, spec.crop_margin_mm) == ("percentiles", None)


@pytest.mark.parametrize(("value", "message"), [(0.0, "no foreground"), (7.0, "one intensity only")])
def test_an_empty_scan_is_refused(value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preprocess(Volume(np.full((1, 8, 8, 8), value, np.float32), np.eye(4)), Preprocessing())


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 50), (0, 101)])
def test_percentiles_that_make_no_scale_are_refused(percentiles: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(intensity_percentiles=percentiles)


def test_a_window_that_makes_no_scale_is_refused() -> None:
    with pytest.raises(ValidationError, match="window_hu: the second must be above the first"):
        Preprocessing(window_hu=(100, 100))
