"""Views of one place of a smooth random volume, and a configuration with every augmentation on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from toolkit.scans.views import ViewConfig, apply_parameters, identity_parameters

SIZE = 16
CENTRE = np.array([[20, 21, 22]], np.float32)

Viewer = Callable[..., np.ndarray]


@pytest.fixture
def everything() -> ViewConfig:
    """Each view has about half of all augmentations, and each augmentation about half of the views."""
    kinds = "crop_resize elastic blur low_resolution bias_field gamma contrast brightness ghosting motion noise rician"
    names = [*kinds.split(), "outer_mask", "inner_mask", "cutout", "rotation", "zoom"]
    values = {f"{name}_probability": 0.5 for name in names}
    return ViewConfig(patch_size=SIZE, flip_probability=(0.5, 0.5, 0.5), **values)


@pytest.fixture
def patch(textured: np.ndarray) -> np.ndarray:
    """What a view of `CENTRE` is cut from, (1, SIZE, SIZE, SIZE), stretched so that it has a 0 and a 1."""
    part = textured[:, 12:28, 13:29, 14:30]
    return (part - part.min()) / np.ptp(part)


@pytest.fixture
def view(textured: np.ndarray, patch: np.ndarray) -> Viewer:
    """Makes one view of `patch` with some parameters changed from those that change nothing."""
    part = textured[:, 12:28, 13:29, 14:30]
    volume = (textured - part.min()) / np.ptp(part)

    def make(**parameters: object) -> np.ndarray:
        unchanged = identity_parameters(SIZE, 1)
        arrays = {}
        for name, value in parameters.items():
            array = getattr(unchanged, name)
            arrays[name] = np.asarray(value, array.dtype)[None]
        return apply_parameters(volume, CENTRE, replace(unchanged, **arrays), SIZE)[0]

    return make
