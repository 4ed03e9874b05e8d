"""Captions say what the parameters are."""

from dataclasses import replace

import numpy as np

from toolkit.scans.views import ViewConfig, describe, identity_parameters, sample_parameters

SIZE = 16


def test_nothing_done_is_nothing_said() -> None:
    assert describe(identity_parameters(SIZE, 1), 0, SIZE) == []


def test_geometry_is_read_off_the_matrix() -> None:
    off = ["blur", "bias_field", "gamma", "contrast", "brightness", "noise"]
    config = ViewConfig(
        patch_size=SIZE,
        shift_voxels=0,
        zoom=2,
        flip_probability=(1, 0, 1),
        **{f"{name}_probability": 0 for name in off},
    )
    parameters = sample_parameters(config, 0, 0, np.arange(30), 0)
    for row in range(30):
        linear = parameters.matrices[row, :, :3].astype(np.float64)
        turned, mirrored, enlarged = describe(parameters, row, SIZE)
        assert mirrored == "mirrored along IK"
        scale = float(enlarged.split()[1])
        assert abs(np.linalg.norm(linear[:, 0]) * scale - 1) < 0.02
        rotation = linear * [-1, 1, -1] / np.cbrt(np.linalg.det(linear))
        degrees = float(turned.removeprefix("turned ").removesuffix("°"))
        assert abs(np.rad2deg(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))) - degrees) < 1


def test_each_change_has_its_line() -> None:
    windows = np.array([[[[0, 0, 0], [3, 3, 3]], [[5, 5, 5], [9, 9, 9]], [[0, 0, 0], [0, 0, 0]]]])
    ones = np.ones(1, np.float32)
    changed = replace(
        identity_parameters(SIZE, 1),
        displacements=np.full((1, 3, 4, 4, 4), 1, np.float32),
        blur_sigma=ones,
        low_resolution=np.array([[SIZE, 8, SIZE]]),
        bias=np.full((1, 6), 0.1, np.float32),
        gamma=ones / 2,
        inverted=np.array([True]),
        contrast=ones * 0.8,
        brightness=ones * 0.1,
        filter_axis=np.array([2]),
        noise=ones * 0.03,
        rician=ones * 0.02,
        outer_mask=windows[:, :1],
        inner_mask=windows,
        cutout=windows[:, :1],
    )
    assert describe(changed, 0, SIZE) == [
        "deformed, up to 1.7 voxels",
        "blurred 1.0 voxels",
        "8 of 16 voxels along J",
        "bias field 0.10",
        "gamma 0.50 of the negative",
        "contrast x 0.80",
        "brightness +0.10",
        "ghosts or motion along K",
        "noise 0.030",
        "Rician noise 0.020",
        "1 window kept",
        "2 windows masked",
        "cut-out",
    ]
