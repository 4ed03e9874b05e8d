"""Blur, resolution, shading and noise against MONAI's transforms of the same name, or the formula."""

import numpy as np
import pytest
import torch
from monai.transforms import (
    AdjustContrast,
    GaussianSmooth,
    RandBiasField,
    RandRicianNoise,
    RandSimulateLowResolution,
    ScaleIntensity,
    ShiftIntensity,
)
from scipy import ndimage, stats

from tests.scans.views.conftest import SIZE, Viewer
from toolkit.scans.views.power import power


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_equals_scipys_gaussian(patch: np.ndarray, view: Viewer, sigma: float) -> None:
    radius = int(np.ceil(3 * sigma))
    reference = ndimage.gaussian_filter(patch[0].astype(np.float64), sigma, mode="nearest", radius=radius)
    np.testing.assert_allclose(view(blur_sigma=sigma)[0], reference, atol=1e-6)


def test_blur_equals_monais_gaussian_inside(patch: np.ndarray, view: Viewer) -> None:
    reference = GaussianSmooth(sigma=0.8, approx="sampled")(torch.from_numpy(patch.copy())).numpy()
    inner = (slice(None), *[slice(4, -4)] * 3)  # at the border MONAI mixes in zeros, ours repeats the edge
    np.testing.assert_allclose(view(blur_sigma=0.8)[inner], reference[inner], atol=1e-3)  # cut off at 3, there at 4


@pytest.mark.parametrize("size", [1, 5, 8, 11, 15])
def test_low_resolution_equals_monais(patch: np.ndarray, view: Viewer, size: int) -> None:
    transform = RandSimulateLowResolution(prob=1, downsample_mode="area", upsample_mode="trilinear")
    transform.randomize()
    transform.zoom_factor = size / SIZE
    reference = transform(torch.from_numpy(patch.copy()), randomize=False).numpy()
    np.testing.assert_allclose(view(low_resolution=[size] * 3), reference, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_leave_the_other_axes_sharp(patch: np.ndarray, view: Viewer, axis: int) -> None:
    sizes = np.full(3, SIZE)
    sizes[axis] = 6
    coarse = torch.nn.functional.interpolate(torch.from_numpy(patch.copy())[None], size=tuple(sizes), mode="area")
    reference = torch.nn.functional.interpolate(coarse, size=(SIZE,) * 3, mode="trilinear")[0].numpy()
    np.testing.assert_allclose(view(low_resolution=sizes), reference, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.4, 0.8, 1.5, 3.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_equals_monais_adjust_contrast(patch: np.ndarray, view: Viewer, gamma: float, inverted: bool) -> None:
    reference = AdjustContrast(gamma, invert_image=inverted)(torch.from_numpy(patch.copy())).numpy()
    np.testing.assert_allclose(view(gamma=gamma, inverted=inverted), np.where(patch > 0, reference, 0), atol=1e-5)


@pytest.mark.parametrize("exponent", [0.1, 1 / 1.5, 1.0001, 10.0])
def test_the_power_is_that_of_double_precision(exponent: float) -> None:
    bases = np.concatenate([np.linspace(0, 1, 2001), np.geomspace(1e-7, 1, 200)]).astype(np.float32)
    found = np.array([power(base, np.float32(exponent)) for base in bases])
    np.testing.assert_allclose(found, bases.astype(np.float64) ** np.float32(exponent), rtol=2e-6, atol=1e-9)
    assert found[0] == 0


def test_contrast_and_brightness_equal_monais_scale_and_shift(patch: np.ndarray, view: Viewer) -> None:
    scaled = ScaleIntensity(minv=None, maxv=None, factor=-0.2)(torch.from_numpy(patch.copy()))
    reference = ShiftIntensity(offset=0.5 * 0.2 + 0.07)(scaled).numpy()  # about 1/2
    found = view(contrast=0.8, brightness=0.07)
    np.testing.assert_allclose(found, np.where(patch > 0, np.maximum(reference, 0), 0), atol=1e-6)


def test_the_bias_field_equals_monais(patch: np.ndarray, view: Viewer) -> None:
    x, y, z, xx, yy, zz = bias = [0.1, -0.2, 0.15, 0.05, -0.1, 0.2]
    # MONAI's are Legendre polynomials, in the order z zz y yz yy x xz xy xx and a constant; x^2 is (2 P2 + 1) / 3.
    constant = (xx + yy + zz) / 3
    legendre = [constant, z, zz * 2 / 3, y, 0, yy * 2 / 3, x, 0, 0, xx * 2 / 3]
    transform = RandBiasField(degree=2, prob=1)
    transform.randomize((SIZE,) * 3)
    transform._coeff = legendre
    reference = transform(torch.from_numpy(0.3 * patch), randomize=False).numpy()
    found = view(bias=bias, contrast=1)
    brighter = np.minimum(reference / 0.3, 1)
    np.testing.assert_allclose(found, brighter, atol=1e-5)


def test_background_stays_0_whatever_the_shading(view: Viewer, patch: np.ndarray) -> None:
    shaded = view(bias=[0.5] * 6, gamma=0.7, inverted=True, contrast=0.7, brightness=0.3)
    assert (patch == 0).any()
    assert (shaded[patch == 0] == 0).all() and (shaded[patch > 0] > 0.3).all()


def test_noise_is_normal_with_the_given_deviation(patch: np.ndarray, view: Viewer) -> None:
    noise = ((view(noise=0.2, noise_offsets=[12345, 0, 0]) - patch) / np.float32(0.2)).ravel()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4 / np.sqrt(len(noise))


def test_rician_noise_has_the_distribution_of_rice_and_of_monai(patch: np.ndarray, view: Viewer) -> None:
    flat = view(rician=0.2, noise_offsets=[0, 777_777, 55_555], contrast=0, brightness=0.1)  # .6 in the foreground
    found = flat[patch > 0]
    assert stats.kstest(found, stats.rice(0.6 / 0.2, scale=0.2).cdf).pvalue > 1e-3
    monai = RandRicianNoise(prob=1, std=0.2, sample_std=False)
    monai.set_random_state(0)
    reference = monai(torch.full(found.shape, 0.6)[None]).numpy().ravel()
    assert stats.ks_2samp(found, reference).pvalue > 1e-3


def test_noise_of_the_last_place_goes_on_at_the_banks_beginning(patch: np.ndarray, view: Viewer) -> None:
    from toolkit.scans.views.noise import NOISE_BANK_SIZE, noise_bank

    bank, voxels = noise_bank(), SIZE**3
    found = (view(noise=1, noise_offsets=[NOISE_BANK_SIZE - 5, 0, 0]) - patch).ravel()
    np.testing.assert_allclose(found, np.concatenate([bank[-5:], bank[: voxels - 5]]), atol=1e-5)
