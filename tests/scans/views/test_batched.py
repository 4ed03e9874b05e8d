"""The batched pass of torch gives the kernel's views for the same parameters, here on the CPU."""

import numpy as np
import torch

from tests.scans.views.conftest import SIZE
from toolkit.scans.views import ViewConfig, apply_parameters, render_batch, sample_parameters, source_box


def test_a_batch_equals_the_kernels_views(textured: np.ndarray, everything: ViewConfig) -> None:
    stored = np.rint(np.concatenate([textured, 1 - textured]) * 4095).astype(np.int16)
    parameters = sample_parameters(everything, 0, 0, np.arange(40), 0)
    centres = np.random.default_rng(2).integers(0, 44, (40, 3)).astype(np.float32)
    kernel = apply_parameters(stored, centres, parameters, SIZE, scale=1 / 4095)
    crops = torch.from_numpy(stored).expand(40, -1, -1, -1, -1)
    batch = render_batch(crops, torch.from_numpy(centres), parameters.tensors(), SIZE, scale=1 / 4095)
    assert batch.shape == kernel.shape and batch.dtype == torch.float32
    np.testing.assert_allclose(batch.numpy(), kernel, atol=2e-5)


def test_defaults_and_one_scale_a_view(textured: np.ndarray) -> None:
    config = ViewConfig(patch_size=SIZE)
    parameters = sample_parameters(config, 0, 0, np.arange(6), 0)
    low, high = source_box(parameters, SIZE)
    sides = (high - low).max(axis=0)
    scales, offsets = np.linspace(1e-4, 3e-4, 6), np.linspace(-0.2, 0, 6)
    padded = np.pad(textured, [(0, 0), *[(20, 20)] * 3])
    crops, kernel = [], []
    for row in range(6):
        start = np.array([20, 21, 22]) + 20 + low[row]
        crop = padded[(slice(None), *[slice(a, a + n) for a, n in zip(start, sides, strict=True)])]
        stored = np.rint((crop - offsets[row]) / scales[row]).astype(np.int16)
        crops.append(torch.from_numpy(stored))
        values = {"scale": scales[row], "offset": offsets[row]}
        kernel.append(apply_parameters(stored, -low[row : row + 1], parameters[row : row + 1], SIZE, **values)[0])
    batch = render_batch(
        torch.stack(crops),
        torch.from_numpy(-low),
        parameters.tensors(),
        SIZE,
        scale=torch.from_numpy(scales),
        offset=torch.from_numpy(offsets),
    )
    # The kernel rounds a background that lies between two stored values to the nearer one.
    np.testing.assert_allclose(batch.numpy(), np.stack(kernel), atol=1e-3)


def test_a_batch_never_waits_for_its_device(everything: ViewConfig) -> None:
    """On torch's `meta` device there are no values to look at."""
    parameters = sample_parameters(everything, 0, 0, np.arange(4), 0)
    tensors = {name: tensor.to("meta") for name, tensor in parameters.tensors().items()}
    crops = torch.empty(4, 2, 30, 31, 32, dtype=torch.int16, device="meta")
    batch = render_batch(crops, torch.empty(4, 3, device="meta"), tensors, SIZE, scale=torch.ones(4, device="meta"))
    assert batch.device.type == "meta" and batch.shape == (4, 2, SIZE, SIZE, SIZE)
