"""Sites: noise, slices, contrasts and grids."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from toolkit.scans.cohort import CohortConfig
from toolkit.scans.cohort.scanner import Site, acquire, contrast, grid, pose, site, thicken

CONFIG = CohortConfig(brain="parametric", num_sites=4, sequences=("T1", "T2", "FLAIR"))


def plain(**changes: object) -> Site:
    return replace(site(CONFIG, 0), gamma=1.0, blur_voxels=0.0, gain=1.0, grey_shift=0.0, **changes)


def test_noise_is_rician() -> None:
    scanner = plain(noise=0.05, planes={"T1": "axial"}, thickness=1)
    where = grid(scanner, "T1", 8.0, np.eye(4), np.random.default_rng([0]))
    silent = acquire(
        np.full(where.shape, 0.1, np.float32), where, replace(scanner, noise=0.0), np.random.default_rng([1])
    )
    noisy = acquire(np.full(where.shape, 0.1, np.float32), where, scanner, np.random.default_rng([1]))
    # Through the distribution's own function Rician values become uniform ones, whatever the shading.
    uniform = stats.rice.cdf(noisy, silent / 0.05, scale=0.05).ravel()
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    air = acquire(np.zeros(where.shape, np.float32), where, scanner, np.random.default_rng([2]))
    assert air.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.01)


@pytest.mark.parametrize(("plane", "axis"), [("axial", 2), ("sagittal", 0), ("coronal", 1)])
def test_a_thick_slice_is_the_mean_of_thin_ones(plane: str, axis: int) -> None:
    scanner = plain(planes={"T1": plane}, thickness=2, in_plane=1.1)
    where = grid(scanner, "T1", 5.0, pose(np.random.default_rng([1])), np.random.default_rng([2]))
    spacing = np.linalg.norm(where.affine[:3, :3], axis=0)
    assert spacing[axis] == pytest.approx(10)
    assert np.delete(spacing, axis) == pytest.approx(5.5)
    fine_affine, fine_shape = where.fine
    x = np.einsum("ij,jabc->iabc", fine_affine[:3, :3], np.indices(fine_shape)) + fine_affine[:3, 3, None, None, None]
    thick = thicken(x.astype(np.float32), where)
    affine = where.to_person @ where.affine
    expected = np.einsum("ij,jabc->iabc", affine[:3, :3], np.indices(where.shape)) + affine[:3, 3, None, None, None]
    np.testing.assert_allclose(thick, expected, atol=1e-3)


def test_contrasts_order_the_tissues_as_they_should() -> None:
    levels = np.array([0.0, 0.2, 0.6, 0.85], np.float32)  # air, fluid, grey, white
    inside = np.stack([levels, np.ones(4, np.float32)])
    t1, t2, flair = (contrast(inside, sequence, plain()) for sequence in ("T1", "T2", "FLAIR"))
    assert t1[1] < t1[2] < t1[3]
    assert t2[1] > t2[2] > t2[3]
    assert flair[1] < flair[3] < flair[2]
    outside = np.stack([levels, np.zeros(4, np.float32)])
    np.testing.assert_allclose(contrast(outside, "T2", plain()), 0.7 * levels)


def test_sites_differ_and_only_the_seed_decides_them() -> None:
    first = [site(CONFIG, number) for number in range(4)]
    assert len({each.name for each in first}) == 4
    assert max(each.noise for each in first) > 1.8 * min(each.noise for each in first)
    assert max(each.gamma for each in first) > 1.3 * min(each.gamma for each in first)
    again = site(CohortConfig(brain="parametric", num_subjects=999, num_sites=4), 2)
    assert again.noise == first[2].noise
    assert site(CohortConfig(brain="parametric", num_sites=4, seed=1), 2).noise != first[2].noise


def test_a_pose_is_rigid_and_oblique_slices_follow_it() -> None:
    placed = pose(np.random.default_rng([5]))
    np.testing.assert_allclose(placed[:3, :3] @ placed[:3, :3].T, np.eye(3), atol=1e-12)
    for oblique in (False, True):
        where = grid(plain(oblique=oblique, thickness=1), "T1", 5.0, placed, np.random.default_rng([0]))
        axes = where.affine[:3, :3] / np.linalg.norm(where.affine[:3, :3], axis=0)
        np.testing.assert_allclose(axes, placed[:3, :3] if oblique else np.eye(3), atol=1e-12)
