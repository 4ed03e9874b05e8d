"""Parameters: a function of (seed, epoch, sample, view), one augmentation's independent of the others'."""

from dataclasses import fields

import numpy as np
import pytest

from toolkit.scans.views import ViewConfig, ViewParameters, sample_parameters, sampling
from toolkit.scans.views.draws import Stream, uniform

SAMPLES = np.arange(400)
ARRAYS = {
    "shift_voxels": {"matrices"},
    "rotation_probability": {"matrices"},
    "zoom_probability": {"matrices"},
    "crop_resize_probability": {"matrices"},
    "elastic_probability": {"displacements"},
    "blur_probability": {"blur_sigma"},
    "low_resolution_probability": {"low_resolution"},
    "bias_field_probability": {"bias"},
    "gamma_probability": {"gamma"},
    "gamma_inverted_probability": {"inverted"},
    "contrast_probability": {"contrast"},
    "brightness_probability": {"brightness"},
    "ghosting_probability": {"filters", "filter_axis"},
    "motion_probability": {"filters", "filter_axis"},
    "noise_probability": {"noise"},
    "rician_probability": {"rician"},
    "outer_mask_probability": {"outer_mask"},
    "inner_mask_probability": {"inner_mask"},
    "cutout_probability": {"cutout"},
}


def differing(one: ViewParameters, other: ViewParameters) -> set[str]:
    names = [field.name for field in fields(one)]
    return {name for name in names if not np.array_equal(getattr(one, name), getattr(other, name))}


@pytest.mark.parametrize("key", ARRAYS)
def test_switching_one_augmentation_off_leaves_the_others_draws_alone(key: str, everything: ViewConfig) -> None:
    without = everything.model_copy(update={key: 0.0})
    assert differing(*(sample_parameters(c, 1, 2, SAMPLES[:40], 0) for c in (everything, without))) == ARRAYS[key]


def test_every_probability_is_in_the_list_above() -> None:
    keys = {key for key in ViewConfig.model_fields if key.endswith("_probability")} - {"flip_probability"}
    assert keys == ARRAYS.keys() - {"shift_voxels"}


def test_no_two_augmentations_draw_from_one_stream(everything: ViewConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Stream] = []

    def noted(seed: int, epoch: int, samples: np.ndarray, view: int, stream: Stream, count: int) -> np.ndarray:
        used.append(stream)
        return uniform(seed, epoch, samples, view, stream, count)

    monkeypatch.setattr(sampling, "uniform", noted)
    sample_parameters(everything, 0, 0, SAMPLES[:3], 0)
    assert sorted(used) == sorted(set(Stream) - {Stream.METHOD})  # which is the batches'


def test_a_flip_moves_nothing_else(everything: ViewConfig) -> None:
    unflipped = everything.model_copy(update={"flip_probability": (0.0, 0.0, 0.0)})
    one, other = (sample_parameters(config, 1, 2, SAMPLES, 0) for config in (everything, unflipped))
    assert differing(one, other) == {"matrices"}
    same_axes = np.abs(one.matrices[:, :, :3]) - np.abs(other.matrices[:, :, :3])
    np.testing.assert_allclose(same_axes, 0, atol=1e-6)


def test_samples_can_be_drawn_in_any_portions(everything: ViewConfig) -> None:
    whole = sample_parameters(everything, 1, 2, SAMPLES[:20], 1)
    for rows in ([19], [3, 7, 4], range(10, 20)):
        part = sample_parameters(everything, 1, 2, SAMPLES[list(rows)], 1)
        assert differing(part, whole[np.array(rows)]) == set()


@pytest.mark.parametrize("other", [(9, 2, 0), (1, 9, 0), (1, 2, 1)])
def test_another_seed_epoch_or_view_is_another_view(everything: ViewConfig, other: tuple[int, int, int]) -> None:
    seed, epoch, view = other
    one, changed = (
        sample_parameters(everything, 1, 2, SAMPLES, 0),
        sample_parameters(everything, seed, epoch, SAMPLES, view),
    )
    assert differing(one, changed) == {field.name for field in fields(one)}


def test_probabilities_are_frequencies(everything: ViewConfig) -> None:
    p = sample_parameters(everything.model_copy(update={"blur_probability": 0.2}), 0, 0, SAMPLES, 0)
    half = {
        "elastic": p.displacements.any(axis=(1, 2, 3, 4)),
        "low resolution": (p.low_resolution < 16).any(axis=1),
        "bias": p.bias.any(axis=1),
        "gamma": p.gamma != 1,
        "inverted": p.inverted,
        "noise": p.noise > 0,
        "outer": p.outer_mask.any(axis=(1, 2, 3)),
        "inner": p.inner_mask.any(axis=(1, 2, 3)),
        "cutout": p.cutout.any(axis=(1, 2, 3)),
    }
    assert {name: round(had.mean(), 2) for name, had in half.items() if abs(had.mean() - 0.5) > 0.1} == {}
    assert 0.66 < (p.filter_axis >= 0).mean() < 0.84  # ghosts or motion
    assert 0.12 < (p.blur_sigma > 0).mean() < 0.24  # a tenth of those drawn are too small to blur


def test_strengths_bound_what_is_drawn(everything: ViewConfig) -> None:
    p = sample_parameters(everything, 0, 0, SAMPLES, 0)
    assert np.abs(p.displacements).max() <= everything.elastic_voxels
    assert 1 / 1.5 <= p.gamma.min() < 0.8 and 1.3 < p.gamma.max() <= 1.5
    assert 0.75 <= p.contrast.min() < 0.8 and 1.2 < p.contrast.max() <= 1.25
    assert p.noise.max() <= 0.05 and np.abs(p.brightness).max() <= 0.1 + 1e-6
    assert p.low_resolution.min() == 8
    volumes = np.abs(np.linalg.det(p.matrices[:, :, :3])) ** (1 / 3)
    assert volumes.min() >= 0.6 / 1.2 and volumes.max() <= 1.2 + 1e-6


def test_what_is_turned_keeps_its_shape_where_voxels_are_no_cubes(everything: ViewConfig) -> None:
    config = everything.model_copy(update={"rotation_degrees": 40.0, "rotation_probability": 1.0})
    spacing_mm = np.array([1.0, 0.8, 5.0])
    cubes = sample_parameters(config, 0, 0, SAMPLES, 0)
    thick = sample_parameters(config, 0, 0, SAMPLES, 0, spacing_mm=np.tile(spacing_mm, (len(SAMPLES), 1)))
    assert differing(cubes, thick) == {"matrices"}
    in_mm = spacing_mm[:, None] * thick.matrices[:, :, :3] / spacing_mm
    np.testing.assert_allclose(in_mm, cubes.matrices[:, :, :3], atol=1e-5)  # a rotation, a scale, flips
    scaled = np.einsum("vij,vkj->vik", in_mm, in_mm)
    np.testing.assert_allclose(scaled, scaled[:, :1, :1] * np.eye(3), atol=1e-5)
    plain = config.model_copy(update={"crop_resize_probability": 0.0})  # else its middle lies elsewhere in the patch
    cubes, thick = (sample_parameters(plain, 0, 0, SAMPLES, 0, spacing_mm=s) for s in ((2, 2, 2), spacing_mm))
    middle = np.full(4, (config.patch_size - 1) / 2)
    middle[3] = 1
    np.testing.assert_allclose(thick.matrices @ middle, cubes.matrices @ middle, atol=1e-4)


def test_every_entry_becomes_a_tensor_with_a_row_a_view(everything: ViewConfig) -> None:
    p = sample_parameters(everything, 0, 0, SAMPLES[:5], 0)
    assert {len(tensor) for tensor in p.tensors().values()} == {5}
    assert p.tensors().keys() == {field.name for field in fields(p)}
