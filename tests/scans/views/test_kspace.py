"""Ghosts and motion against NumPy's Fourier transform of the view itself."""

import numpy as np
import pytest

from tests.scans.views.conftest import SIZE, Viewer
from toolkit.scans.views import ViewConfig, sample_parameters
from toolkit.scans.views.kspace import ghosting_mask, motion_mask


def filters(factors: np.ndarray) -> np.ndarray:
    kernel = np.fft.ifft(factors)
    return np.stack([kernel.real, kernel.imag])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ghosts_and_motion_are_factors_of_k_space(patch: np.ndarray, view: Viewer, axis: int) -> None:
    factors = ghosting_mask(SIZE, np.array([3.0]), np.array([0.6]))[0]
    factors = factors * motion_mask(SIZE, np.array([[0.3], [0.8]]), np.array([[1.5], [-0.7]]))[0]
    shape = np.ones(3, int)
    shape[axis] = SIZE
    spectrum = np.fft.fft(patch[0], axis=axis) * factors.reshape(shape)
    reference = np.abs(np.fft.ifft(spectrum, axis=axis))
    np.testing.assert_allclose(view(filter_axis=axis, filters=filters(factors))[0], reference, atol=1e-5)
    assert np.abs(reference - patch[0]).max() > 0.05


def test_a_ghost_lies_where_the_period_says() -> None:
    point = np.zeros(24)
    point[2] = 1
    ghosts = np.fft.ifft(np.fft.fft(point) * ghosting_mask(24, np.array([4.0]), np.array([1.0]))[0]).real
    brightest = np.argsort(-np.abs(ghosts - point))[:4]
    assert set(brightest) == {2, 8, 14, 20}  # copies every 24 / 4 voxels
    assert ghosts.sum() == pytest.approx(1)  # the middle line is whole: so is the mean


def test_one_move_before_the_middle_line_only_turns_phases_of_the_outer_lines() -> None:
    factors = motion_mask(16, np.array([[0.25], [1.1]]), np.array([[2.0], [0.0]]))[0]
    lines = np.fft.fftfreq(16) * 16
    np.testing.assert_allclose(np.abs(factors), 1)
    np.testing.assert_allclose(factors[lines >= -4], 1)  # the place of the middle line is the patient's place
    np.testing.assert_allclose(factors[lines == -6], np.exp(-2j * np.pi * -6 / 16 * -2))


def test_views_without_either_are_not_filtered(patch: np.ndarray, view: Viewer) -> None:
    np.testing.assert_array_equal(view(filter_axis=-1, filters=np.zeros((2, SIZE))), patch)
    rare = ViewConfig(patch_size=SIZE, ghosting_probability=0.2, motion_probability=0)
    parameters = sample_parameters(rare, 0, 0, np.arange(200), 0)
    delta = np.zeros(SIZE)
    delta[0] = 1
    unchanged = (np.abs(parameters.filters[:, 0] - delta).max(axis=1) < 1e-6) & (parameters.filter_axis < 0)
    assert 0.7 < unchanged.mean() < 0.9
