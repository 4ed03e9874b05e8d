"""Pictures are PNGs in which the atlas is where it should be."""

import io

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from toolkit.scans import class_colours, overlay_png, views_png
from toolkit.scans.pictures import captioned_png


def decoded(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return (image.imread(io.BytesIO(png))[..., :3] * 255).round()


def test_the_overlay_colours_only_voxels_of_a_class() -> None:
    array = np.full((10, 12, 14), 0.5, np.float32)
    classes = np.full(array.shape, -1)
    classes[:, :, 10:] = 1  # the superior part
    picture = decoded(overlay_png(array, classes, pixels_per_voxel=1))
    coloured = np.ptp(picture, axis=2) > 20
    sagittal = coloured[:, 14:26]  # the second panel: 12 wide after a gap of 2
    assert sagittal[:4].all()  # superior is up
    assert not sagittal[4:].any()
    assert not coloured[:, :12].any()


def test_left_is_left() -> None:
    array = np.zeros((10, 12, 14), np.float32)
    array[:3] = 1  # RAS: low i is the person's left
    axial = decoded(overlay_png(array, pixels_per_voxel=1))[1:13, -12:-2]
    assert axial[:, :3].min() == 255
    assert axial[:, 3:].max() == 0


def test_views_stand_in_columns() -> None:
    patches = [[np.full((1, 8, 8, 8), value, np.float32) for value in (0.2, 0.9)] for _ in range(3)]
    picture = decoded(views_png(patches, pixels_per_voxel=2))
    assert picture.shape == (2 * 2 * (8 + 2), 3 * 2 * (8 + 2), 3)
    assert picture[4, 4, 0] == 51
    assert len(set(class_colours(7))) == 7


def test_captioned_columns_show_three_planes_and_the_crops_box() -> None:
    scan = np.zeros((20, 30, 40), np.float32)
    patch = np.full((8, 8, 8), 1, np.float32)
    box = np.array([2, 20, 30]), np.array([10, 28, 38])
    plain, boxed = (
        decoded(captioned_png([("scan", [], scan), ("patch", ["turned 5°"], patch)], where))
        for where in ((box[1], box[1]), box)
    )
    orange = np.ptp(boxed, axis=2) > 100
    assert orange.sum() > 300 > (np.ptp(plain, axis=2) > 100).sum()
    rows, columns = np.nonzero(orange)
    assert columns.max() < boxed.shape[1] / 2  # only in the scan's column, in each of its planes
    thirds = np.unique(rows * 3 // boxed.shape[0])
    assert set(thirds) == {0, 1, 2}


def test_planes_go_through_the_boxs_middle_in_the_voxels_proportions(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw)))
    scan = np.random.default_rng([3]).random((20, 30, 40))
    patch = np.random.default_rng([4]).random((8, 8, 8))
    low, high = np.array([2, 20, 30]), np.array([10, 28, 38])
    captioned_png([("scan", [], scan), ("patch", [], patch)], (low, high), (1.0, 2.0, 5.0))
    panels = figures[0].axes
    assert "person's left is on the left" in figures[0].get_supxlabel()
    for column, (array, (i, j, k)) in enumerate(((scan, (6, 24, 34)), (patch, (4, 4, 4)))):
        planes = (array[:, :, k], 2.0), (array[:, j], 5.0), (array[i], 2.5)  # side of a voxel upwards over across
        for row, (plane, aspect) in enumerate(planes):
            panel = panels[2 * row + column]
            np.testing.assert_allclose(panel.images[0].get_array(), plane.T)
            assert panel.get_aspect() == aspect
            assert panel.get_ylim()[0] < panel.get_ylim()[1]  # up is anterior or superior
            assert panel.images[0].origin == "lower"
            sides = sorted((text.get_position()[0], text.get_text()) for text in panel.texts)
            named = [["L", "R"], ["L", "R"], ["P", "A"]][row] if column == 0 else []  # a view's axes may be turned
            assert [side for _, side in sides] == named
            assert panel.get_xlim()[0] < panel.get_xlim()[1]
            assert [patch.get_bbox().bounds for patch in panel.patches] == (
                [[(1.5, 19.5, 8, 8), (1.5, 29.5, 8, 8), (19.5, 29.5, 8, 8)][row]] if column == 0 else []
            )
