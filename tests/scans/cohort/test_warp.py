"""Smooth maps and the compiled look-up, against SciPy and formulas."""

import numpy as np
import pytest
from scipy import ndimage

from toolkit.scans.cohort.warp import Deformation, exponential, grid_points, look_up, random_velocity


@pytest.fixture(scope="module")
def velocity() -> np.ndarray:
    return random_velocity(np.random.default_rng([3]), ((25.0, 5.0), (12.0, 2.0)))


def test_velocities_have_the_strength_asked_for() -> None:
    field = random_velocity(np.random.default_rng([1]), ((10.0, 3.0),))
    np.testing.assert_allclose(field.std(axis=(1, 2, 3)), 3, rtol=1e-6)
    # A Gaussian-smoothed field is correlated exp(-d^2 / 4 sigma^2) at a distance d.
    left, right = field[:, :-2].ravel(), field[:, 2:].ravel()
    assert np.corrcoef(left, right)[0, 1] == pytest.approx(np.exp(-(12.0**2) / (4 * 10.0**2)), abs=0.08)


def test_nothing_folds_and_the_way_back_leads_back(velocity: np.ndarray) -> None:
    there, back = exponential(velocity), exponential(-velocity)
    assert np.abs(there.displacement).max() > 8
    assert there.jacobian().min() > 0
    returned = look_up(back.displacement, back.affine, there, there.affine, velocity.shape[1:], beyond_edge=True)
    inner = (slice(None), *[slice(4, -4)] * 3)
    assert np.abs(there.displacement + returned)[inner].max() < 1
    assert np.abs(there.displacement + returned)[inner].mean() < 0.1


def test_a_field_that_folds_is_seen() -> None:
    # Mirroring the space along the first axis has the determinant -1.
    flat = exponential(np.zeros_like(grid_points()))
    mirror = np.zeros_like(flat.displacement)
    mirror[0] = -2 * grid_points()[0]
    np.testing.assert_allclose(Deformation(mirror, flat.affine).jacobian(), -1, rtol=1e-5)


def test_the_jacobian_is_that_of_a_linear_map() -> None:
    matrix = np.array([[0.1, 0.02, 0], [0.03, -0.05, 0.01], [0, 0.04, 0.02]])
    displacement = np.einsum("ij,jabc->iabc", matrix, grid_points()).astype(np.float32)
    affine = exponential(np.zeros_like(grid_points())).affine
    jacobian = Deformation(displacement, affine).jacobian()
    np.testing.assert_allclose(jacobian, np.linalg.det(np.eye(3) + matrix), rtol=1e-4)


@pytest.mark.parametrize("beyond_edge", [False, True])
def test_look_up_is_scipys_interpolation(velocity: np.ndarray, beyond_edge: bool) -> None:
    random = np.random.default_rng([4])
    source = random.normal(size=(2, 20, 22, 18)).astype(np.float32)
    source_affine = np.array([[9, 0.5, 0, -80], [-0.4, 8, 0.3, -95], [0, 0.2, 10, -70], [0, 0, 0, 1.0]])
    affine = np.array([[11, -0.6, 0.2, -85], [0.5, 12, 0, -110], [0, 0.3, 9, -75], [0, 0, 0, 1.0]])
    deformation = exponential(velocity)
    ours = look_up(source, source_affine, deformation, affine, (15, 16, 17), beyond_edge=beyond_edge)
    x = np.einsum("ij,jabc->iabc", affine[:3, :3], np.indices((15, 16, 17))) + affine[:3, 3, None, None, None]

    def at(field: np.ndarray, to_mm: np.ndarray, points: np.ndarray, mode: str) -> np.ndarray:
        inverse = np.linalg.inv(to_mm)
        voxels = np.einsum("ij,jabc->iabc", inverse[:3, :3], points) + inverse[:3, 3, None, None, None]
        return np.stack([ndimage.map_coordinates(channel, voxels, order=1, mode=mode) for channel in field])

    y = x + at(deformation.displacement, deformation.affine, x, "nearest")
    expected = at(source, source_affine, y, "nearest" if beyond_edge else "constant")
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    assert bool((ours == 0).any()) is not beyond_edge
