"""Axes are permuted and flipped, and memory is in order when they are."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from toolkit.scans.orientation import check_affine, empty_for, to_ras
from toolkit.scans.reasons import Reason, ScanError

TURNS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_what_is_filled_in_the_files_order_is_contiguous_in_ras(
    order: tuple[int, ...], signs: tuple[float, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, list(order)] * [1.5, 2.0, 3.0]
    affine[:3, 3] = [7, -3, 11]
    data = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    filled = empty_for(data.shape, affine)
    filled[:] = data
    turned, ras = to_ras(filled, affine)
    assert turned.flags.c_contiguous
    assert nib.aff2axcodes(ras) == ("R", "A", "S")
    for index in np.ndindex(data.shape):
        place = np.linalg.solve(ras, affine @ [*index, 1])[:3]
        assert turned[tuple(np.rint(place).astype(int))] == data[index]


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 500.0])
def test_axes_that_are_no_axes_are_refused(wrong: float) -> None:
    with pytest.raises(ScanError) as caught:
        check_affine(np.diag([1.0, wrong, 1.0, 1.0]), "a scan")
    assert caught.value.reason == Reason.INCONSISTENT
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    with pytest.raises(ScanError, match="does not place the voxels in space"):
        check_affine(flat, "a scan")


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_sheared_axes_are_refused_with_their_angle(axes: tuple[int, int], sign: int) -> None:
    """To the same tolerance as a tilted gantry's slices: a hundredth of the step, whichever axis leans."""
    stands, leans = axes
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    for share, is_refused in ((0.009, False), (0.011, True), (np.tan(np.radians(20)), True)):
        sheared = affine.copy()
        sheared[stands, leans] = sign * share * affine[leans, leans]
        if not is_refused:
            check_affine(sheared, "a scan")
            continue
        with pytest.raises(ScanError, match=f"{np.degrees(np.arctan(share)):.1f} degrees off a right angle") as caught:
            check_affine(sheared, "a scan")
        assert caught.value.reason == Reason.SHEARED


def test_turned_axes_are_not_sheared() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix() * [0.5, 1.0, -3.0]
    check_affine(turned.astype(np.float32), "a scan")
