"""Cut-out, inner and outer masks equal MONAI's coarse dropout of the same windows."""

import numpy as np
import pytest
from monai.transforms import RandCoarseDropout

from tests.scans.views.conftest import Viewer
from toolkit.scans.views import ViewConfig, sample_parameters

WINDOWS = np.array([[[2, 3, 4], [7, 9, 8]], [[5, 5, 5], [16, 12, 9]], [[0, 0, 0], [0, 0, 0]]])


@pytest.mark.parametrize(("name", "inside"), [("inner_mask", True), ("outer_mask", False)])
def test_masks_equal_monais_coarse_dropout(patch: np.ndarray, view: Viewer, name: str, inside: bool) -> None:
    reference = RandCoarseDropout(holes=2, spatial_size=4, dropout_holes=inside, fill_value=0.3)
    reference.hole_coords = [(slice(None), *map(slice, low, high)) for low, high in WINDOWS[:2]]
    expected = reference._transform_holes(patch.copy())
    np.testing.assert_allclose(view(**{name: WINDOWS}, mask_value=0.3), expected, atol=1e-6)


def test_a_cut_out_is_background(patch: np.ndarray, view: Viewer) -> None:
    expected = patch.copy()
    expected[:, 2:7, 3:9, 4:8] = 0
    np.testing.assert_array_equal(view(cutout=WINDOWS[:1]), expected)


def test_a_view_without_windows_is_whole(patch: np.ndarray, view: Viewer) -> None:
    none = np.zeros_like(WINDOWS)
    np.testing.assert_array_equal(view(outer_mask=none, inner_mask=none, cutout=none, mask_value=0.3), patch)


def test_masks_come_last_so_that_noise_does_not_fill_them(view: Viewer) -> None:
    found = view(inner_mask=WINDOWS[:1], mask_value=0.3, noise=0.5)
    assert (found[:, 2:7, 3:9, 4:8] == np.float32(0.3)).all()


@pytest.mark.parametrize(
    ("name", "smallest", "largest", "most"),
    [("outer_mask", 0.75 * 0.57, 0.57, 5), ("inner_mask", 0.165, 0.33, 5), ("cutout", 0.25, 0.5, 1)],
)
def test_windows_lie_in_the_patch_and_have_the_sizes_asked_for(
    name: str, smallest: float, largest: float, most: int
) -> None:
    size = 40
    config = ViewConfig(patch_size=size, **{f"{name}_probability": 1})
    windows = getattr(sample_parameters(config, 0, 0, np.arange(300), 0), name)
    sides = windows[:, :, 1] - windows[:, :, 0]
    present = (sides > 0).all(axis=2)
    assert windows.min() == 0 and windows.max() == size
    assert sides[present].min() == round(smallest * size) and sides[present].max() == round(largest * size)
    assert set(present.sum(axis=1)) == set(range(1, most + 1))
