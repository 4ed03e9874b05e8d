"""Geometry against MONAI's and SciPy's: crop, flips, turns, zoom, crop-resize and deformation in one interpolation."""

import numpy as np
import pytest
import torch
from monai.transforms import Affine, Resize
from scipy import ndimage

from tests.scans.views.conftest import CENTRE, SIZE
from toolkit.scans import cut_patches
from toolkit.scans.views import (
    ViewConfig,
    ViewParameters,
    apply_parameters,
    identity_parameters,
    sample_parameters,
    source_box,
)

OFF = ("rotation", "zoom", "blur", "bias_field", "gamma", "contrast", "brightness", "noise")
STILL = ViewConfig(
    patch_size=SIZE, shift_voxels=0, flip_probability=(0, 0, 0), **{f"{name}_probability": 0 for name in OFF}
)


def drawn(**changes: object) -> ViewParameters:
    return sample_parameters(STILL.model_copy(update=changes), 3, 0, np.array([7]), 1)


def plain(textured: np.ndarray) -> np.ndarray:
    return textured[:, 12:28, 13:29, 14:30]


def test_with_everything_off_a_view_is_the_patch(textured: np.ndarray) -> None:
    for parameters in (drawn(), identity_parameters(SIZE, 1)):
        np.testing.assert_array_equal(apply_parameters(textured, CENTRE, parameters, SIZE)[0], plain(textured))
    np.testing.assert_array_equal(cut_patches(textured, CENTRE, SIZE)[0], plain(textured))


def test_flips_are_exact(textured: np.ndarray) -> None:
    view = apply_parameters(textured, CENTRE, drawn(flip_probability=(1, 0, 1)), SIZE)[0]
    np.testing.assert_allclose(view, plain(textured)[:, ::-1, :, ::-1], atol=1e-6)


def test_rotation_and_zoom_equal_monais_affine(textured: np.ndarray) -> None:
    parameters = drawn(rotation_probability=1, rotation_degrees=20, zoom_probability=1, zoom=1.3)
    view = apply_parameters(textured, CENTRE, parameters, SIZE)[0]
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(parameters.matrices[0, :, :3].astype(np.float64))
    # MONAI turns about the middle of the array it is given: here 32 voxels around the patch's own middle.
    block = torch.from_numpy(textured[:, 4:36, 5:37, 6:38].copy())
    reference, _ = Affine(affine=matrix, padding_mode="zeros", mode="bilinear")(block)
    np.testing.assert_allclose(view, reference[:, 8:24, 8:24, 8:24].numpy(), atol=1e-5)


def test_crop_resize_equals_monais_resize_of_the_smaller_cube(textured: np.ndarray) -> None:
    parameters = identity_parameters(SIZE, 1)
    small = (9 - 1) / (SIZE - 1)  # the corners of 9 voxels onto those of 16
    parameters.matrices[0, [0, 1, 2], [0, 1, 2]] = small
    parameters.matrices[0, :, 3] = [-6, -4, -2]
    view = apply_parameters(textured, CENTRE, parameters, SIZE)[0]
    cube = torch.from_numpy(textured[:, 14:23, 17:26, 20:29].copy())
    reference = Resize((SIZE,) * 3, mode="trilinear", align_corners=True)(cube).numpy()
    np.testing.assert_allclose(view, reference, atol=1e-5)


def test_a_crop_resize_stays_within_the_patch(everything: ViewConfig) -> None:
    config = STILL.model_copy(update={"crop_resize_probability": 1.0, "crop_resize": 0.3})
    matrices = sample_parameters(config, 0, 0, np.arange(500), 0).matrices
    sides = matrices[:, 0, 0]
    assert 0.3 <= sides.min() < 0.32 and 0.98 < sides.max() <= 1
    first = matrices[:, :, 3] + SIZE // 2
    last = first + sides[:, None] * (SIZE - 1)
    assert first.min() >= -1e-5 and last.max() <= SIZE - 1 + 1e-5
    assert first.min() < 0.3 and last.max() > SIZE - 1.3  # and comes near all of its sides


def test_deformation_about_any_place_equals_scipys_spline_and_interpolation(textured: np.ndarray) -> None:
    parameters = drawn(elastic_probability=1, elastic_voxels=3, rotation_probability=1)
    centre = CENTRE + np.float32([0.25, 0.5, 0.875])  # between voxels
    view = apply_parameters(textured, centre, parameters, SIZE)[0]
    coefficients = parameters.displacements[0].astype(np.float64)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    cells = coefficients.shape[-1] - 3
    knots = grid / (SIZE - 1) * cells + 1  # SciPy centres a coefficient's spline on its index
    moves = [ndimage.map_coordinates(c, knots, order=3, prefilter=False) for c in coefficients]
    matrix = parameters.matrices[0].astype(np.float64)
    places = np.einsum("xi,ijkl->xjkl", matrix[:, :3], grid) + matrix[:, 3, None, None, None] + np.array(moves)
    places += centre[0][:, None, None, None]
    reference = ndimage.map_coordinates(textured[0].astype(np.float64), places, order=1, mode="grid-constant")
    np.testing.assert_allclose(view[0], reference, atol=1e-5)
    assert 1 < np.abs(moves).max() <= 3


def test_outside_the_volume_is_0(textured: np.ndarray) -> None:
    corner = np.zeros((1, 3), np.float32)
    for patch in (
        cut_patches(textured, corner, SIZE)[0],
        apply_parameters(textured, corner, identity_parameters(SIZE, 1), SIZE)[0],
    ):
        np.testing.assert_allclose(patch[:, 8:, 8:, 8:], textured[:, :8, :8, :8], atol=1e-6)
        patch[:, 8:, 8:, 8:] = 0
        assert (patch == 0).all()


def test_a_place_far_outside_shows_nothing(textured: np.ndarray, everything: ViewConfig) -> None:
    quiet = everything.model_copy(
        update={"noise": 0, "rician": 0, "outer_mask_probability": 0, "inner_mask_probability": 0}
    )
    parameters = sample_parameters(quiet, 0, 0, np.arange(8), 0)
    assert (apply_parameters(textured, np.full((8, 3), 500.0), parameters, SIZE) == 0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.37])
def test_a_crop_of_its_box_gives_a_view_the_same_bits(
    textured: np.ndarray, everything: ViewConfig, fraction: float
) -> None:
    stored = np.rint(textured * 32767).astype(np.int16)
    parameters = sample_parameters(everything, 0, 0, np.arange(60), 0)
    centres = np.random.default_rng(1).integers(0, 40, (60, 3)) + fraction
    whole = apply_parameters(stored, centres, parameters, SIZE, scale=1 / 32767)
    lows, highs = source_box(parameters, SIZE)
    padded = np.pad(stored, [(0, 0), *[(40, 40)] * 3])
    for row in range(60):
        low, high = (np.floor(centres[row]).astype(int) + edge[row] for edge in (lows, highs))
        box = tuple(slice(a + 40, b + 40) for a, b in zip(low, high, strict=True))
        crop = padded[(slice(None), *box)]
        view = apply_parameters(crop, (centres[row] - low)[None], parameters[row : row + 1], SIZE, scale=1 / 32767)
        np.testing.assert_array_equal(view[0], whole[row])


def test_the_box_is_not_larger_than_it_must_be() -> None:
    low, high = source_box(identity_parameters(SIZE, 1), SIZE)
    assert (high - low <= SIZE + 3).all()


def test_stored_integers_give_the_intensities_they_stand_for(textured: np.ndarray) -> None:
    stored = np.rint((textured + 1) * 10000).astype(np.int16)
    patch = apply_parameters(stored, CENTRE, identity_parameters(SIZE, 1), SIZE, scale=1e-4, offset=-1)
    np.testing.assert_allclose(patch[0], plain(textured), atol=1e-4)


def test_background_of_stored_integers_is_exactly_0(everything: ViewConfig) -> None:
    """With a background that is not the integer 0, rounding must not make it foreground: brightness would show it."""
    quiet = everything.model_copy(
        update={"noise": 0, "rician": 0, "outer_mask_probability": 0, "inner_mask_probability": 0}
    )
    stored = np.full((1, 40, 40, 40), -1234, np.int16)
    parameters = sample_parameters(quiet, 0, 0, np.arange(20), 0)
    views = apply_parameters(stored, np.full((20, 3), 20.0), parameters, SIZE, scale=1 / 4095, offset=1234 / 4095)
    assert (views == 0).all()


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(textured: np.ndarray, everything: ViewConfig, num_threads: int) -> None:
    parameters = sample_parameters(everything, 0, 0, np.arange(70), 0)
    centres = np.repeat(CENTRE, 70, axis=0)
    one = apply_parameters(textured, centres, parameters, SIZE)
    np.testing.assert_array_equal(one, apply_parameters(textured, centres, parameters, SIZE, num_threads=num_threads))
    alone = apply_parameters(textured, CENTRE, parameters[33:34], SIZE)
    np.testing.assert_array_equal(one[33], alone[0])
