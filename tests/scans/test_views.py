"""Views: replay, and each step of the kernel against MONAI's transform of the same name."""

import numpy as np
import pytest
import torch
from monai.transforms import Affine, GaussianSmooth
from scipy import stats

from toolkit.scans import (
    ViewConfig,
    ViewParameters,
    apply_parameters,
    cut_patches,
    identity_parameters,
    sample_parameters,
)

SIZE = 16
CENTRE = np.array([[20, 21, 22]], np.float32)
OFF = dict.fromkeys(
    ("shift_voxels", "rotation_degrees", "blur_probability", "contrast", "brightness", "bias_field", "noise"),
    0,
)
STILL = ViewConfig(patch_size=SIZE, **OFF, zoom=1, gamma=1, flip_probability=(0, 0, 0))


def plain(textured: np.ndarray) -> np.ndarray:
    return textured[:, 12:28, 13:29, 14:30]


def rendered(textured: np.ndarray, **changes: object) -> tuple[np.ndarray, ViewParameters]:
    parameters = sample_parameters(STILL.model_copy(update=changes), 3, 0, np.array([7]), 1)
    return apply_parameters(textured, CENTRE, parameters, SIZE)[0], parameters


def test_with_everything_off_a_view_is_the_patch(textured: np.ndarray) -> None:
    np.testing.assert_allclose(rendered(textured)[0], plain(textured), atol=1e-6)
    np.testing.assert_allclose(cut_patches(textured, CENTRE, SIZE)[0], plain(textured), atol=1e-6)


def test_outside_the_volume_is_0(textured: np.ndarray) -> None:
    patch = cut_patches(textured, np.zeros((1, 3)), SIZE)[0]
    np.testing.assert_allclose(patch[:, 8:, 8:, 8:], textured[:, :8, :8, :8], atol=1e-6)
    patch[:, 8:, 8:, 8:] = 0
    assert (patch == 0).all()


def test_flips_are_exact(textured: np.ndarray) -> None:
    view, _ = rendered(textured, flip_probability=(1, 0, 1))
    np.testing.assert_allclose(view, plain(textured)[:, ::-1, :, ::-1], atol=1e-6)


def test_rotation_and_zoom_equal_monais_affine(textured: np.ndarray) -> None:
    view, parameters = rendered(textured, rotation_degrees=20, zoom=1.3)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(parameters.matrices[0, :, :3].astype(np.float64))
    # MONAI turns about the middle of the array it is given: here 32 voxels around the patch's own middle.
    block = torch.from_numpy(textured[:, 4:36, 5:37, 6:38].copy())
    reference, _ = Affine(affine=matrix, padding_mode="zeros", mode="bilinear")(block)
    np.testing.assert_allclose(view, reference[:, 8:24, 8:24, 8:24].numpy(), atol=1e-4)


def test_blur_equals_monais_gaussian_inside(textured: np.ndarray) -> None:
    view, parameters = rendered(textured, blur_probability=1, blur_sigma_voxels=1.0)
    sigma = float(parameters.shading[0, 0])
    assert 0.1 < sigma < 1.0
    reference = GaussianSmooth(sigma=sigma, approx="sampled")(torch.from_numpy(plain(textured).copy())).numpy()
    inner = (slice(None), *[slice(4, -4)] * 3)  # at the border MONAI mixes in zeros, ours repeats the edge
    np.testing.assert_allclose(view[inner], reference[inner], atol=2e-3)


def test_gamma_contrast_and_brightness_follow_their_formulas(textured: np.ndarray) -> None:
    view, parameters = rendered(textured, gamma=2, contrast=0.3, brightness=0.1)
    _, gamma, inverted, contrast, brightness, _ = parameters.shading[0]
    x = plain(textured)
    curved = 1 - (1 - x) ** gamma if inverted else x**gamma
    np.testing.assert_allclose(view, np.maximum((curved - 0.5) * contrast + 0.5 + brightness, 0), atol=1e-5)


def test_background_stays_0_whatever_the_shading() -> None:
    view, _ = rendered(np.zeros((1, 40, 44, 48), np.float32), gamma=2, contrast=0.3, brightness=0.3, bias_field=0.5)
    assert (view == 0).all()


def test_the_bias_field_is_the_exponential_of_a_parabola(textured: np.ndarray) -> None:
    view, parameters = rendered(textured * 0.3, bias_field=0.3)
    place = np.linspace(-1, 1, SIZE)
    fields = [np.exp(parameters.bias[0, a] * place + parameters.bias[0, a + 3] * place**2) for a in range(3)]
    expected = np.einsum("cijk,i,j,k->cijk", plain(textured) * 0.3, *fields)
    np.testing.assert_allclose(view, np.minimum(expected, 1), atol=1e-5)


def test_noise_is_normal_with_the_drawn_deviation(textured: np.ndarray) -> None:
    view, parameters = rendered(textured, noise=0.2)
    noise = (view - plain(textured)).ravel() / parameters.shading[0, 5]
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    neighbours = np.corrcoef(noise[:-1], noise[1:])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(len(noise))


def test_a_view_replays_from_its_four_numbers(textured: np.ndarray) -> None:
    config, centres = ViewConfig(patch_size=SIZE), np.repeat(CENTRE, 5, axis=0)
    samples = np.arange(5)
    whole = apply_parameters(textured, centres, sample_parameters(config, 1, 2, samples, 0), SIZE, num_threads=3)
    alone = apply_parameters(textured, CENTRE, sample_parameters(config, 1, 2, samples[3:4], 0), SIZE)
    np.testing.assert_array_equal(whole[3], alone[0])
    for other in [(9, 2, 0), (1, 9, 0), (1, 2, 1)]:
        seed, epoch, view = other
        changed = apply_parameters(textured, CENTRE, sample_parameters(config, seed, epoch, samples[3:4], view), SIZE)
        assert np.abs(changed - alone).max() > 0.01


def test_turning_one_augmentation_off_leaves_the_others_alone() -> None:
    strong, weak = ViewConfig(), ViewConfig(rotation_degrees=0)
    one, other = (sample_parameters(config, 0, 0, np.arange(4), 0) for config in (strong, weak))
    np.testing.assert_array_equal(one.shading, other.shading)
    assert not np.array_equal(one.matrices, other.matrices)


def test_stored_integers_give_the_intensities_they_stand_for(textured: np.ndarray) -> None:
    stored = np.rint((textured + 1) * 10000).astype(np.int16)
    patch = apply_parameters(stored, CENTRE, identity_parameters(SIZE, 1), SIZE, scale=1e-4, offset=-1)
    np.testing.assert_allclose(patch[0], plain(textured), atol=1e-4)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(textured: np.ndarray, num_threads: int) -> None:
    parameters = sample_parameters(ViewConfig(patch_size=SIZE), 0, 0, np.arange(9), 0)
    centres = np.repeat(CENTRE, 9, axis=0)
    one = apply_parameters(textured, centres, parameters, SIZE)
    np.testing.assert_array_equal(one, apply_parameters(textured, centres, parameters, SIZE, num_threads=num_threads))
