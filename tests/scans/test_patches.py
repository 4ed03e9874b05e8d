"""Where patches come from."""

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.scans import balanced_centres, cut_patches, sliding_patches, world_positions


def test_centres_are_balanced_and_lie_in_their_class() -> None:
    classes = np.random.default_rng([0]).integers(-1, 3, (20, 20, 20))
    centres, labels = balanced_centres(classes, 3, 50, seed=4)
    assert np.bincount(labels).tolist() == [50, 50, 50]
    np.testing.assert_array_equal(classes[tuple(centres.T)], labels)
    assert len(np.unique(centres, axis=0)) == 150
    np.testing.assert_array_equal(centres, balanced_centres(classes, 3, 50, seed=4)[0])
    assert not np.array_equal(centres, balanced_centres(classes, 3, 50, seed=5)[0])


def test_a_cut_patch_is_the_array_itself_padded_with_0() -> None:
    array = np.random.default_rng([0]).normal(100, 50, (2, 10, 11, 12)).astype(np.float32)
    inside, corner = cut_patches(array, np.array([[5, 5, 5], [0, 0, 0]]), 6)
    np.testing.assert_array_equal(inside, array[:, 2:8, 2:8, 2:8])
    np.testing.assert_array_equal(corner[:, 3:, 3:, 3:], array[:, :3, :3, :3])
    corner[:, 3:, 3:, 3:] = 0
    assert (corner == 0).all()
    np.testing.assert_array_equal(
        cut_patches(array, np.array([[9, 10, 11]]), 6)[0, :, :4, :4, :4], array[:, 6:, 7:, 8:]
    )


def test_boxes_are_cut_and_slide_as_cubes_do(textured: np.ndarray) -> None:
    centres = np.array([[20, 21, 22], [1, 30, 2]])
    cubes, boxes = cut_patches(textured, centres, 12), cut_patches(textured, centres, (12, 8, 4))
    assert boxes.shape == (2, 1, 12, 8, 4)
    np.testing.assert_array_equal(boxes, cubes[..., 2:10, 4:8])
    slid = sliding_patches(textured + 1, (8, 8, 4), (4, 4, 2))
    i, j, k = textured.shape[1:]
    assert slid.shape == ((i // 4) * (j // 4) * (k // 2), 1, 8, 8, 4)


def test_too_small_a_class_is_named() -> None:
    classes = np.full((4, 4, 4), -1)
    classes[0, 0, 0] = 0
    with pytest.raises(DataError, match="class 0 has 1 voxels where 2"):
        balanced_centres(classes, 1, 2, seed=0)


def test_sliding_patches_cover_the_foreground_only(textured: np.ndarray) -> None:
    array = textured.copy()
    array[:, 20:] = 0
    patches = sliding_patches(array, 8, 4)
    assert patches.shape == (5 * 11 * 12, 1, 8, 8, 8)
    assert (patches[:, 0, 4, 4, 4] > 0).all()
    assert sliding_patches(np.zeros_like(array), 8, 4).shape == (1, 1, 8, 8, 8)


def test_positions_are_world_millimetres() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-90, -126, -72]
    np.testing.assert_array_equal(world_positions(affine, np.array([[45, 63, 36]])), [[0, 0, 0]])
