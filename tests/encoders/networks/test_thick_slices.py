"""Networks for thick slices begin in 2D and end in 3D, by nnU-Net's rule."""

import pytest
import torch
from torch import nn

from tests.encoders.networks.examples import patches, tiny_encoder
from toolkit.encoders.networks.thick_slices import Step, flatten, plan, whole_stride

ALL, FLAT = (True, True, True), (True, True, False)


@pytest.mark.parametrize(
    ("voxel_mm", "strides", "expected"),
    [
        (None, (2, 1, 2), [(ALL, (2, 2, 2)), (ALL, (1, 1, 1)), (ALL, (2, 2, 2))]),
        ((1, 1, 1.9), (1, 2, 2), [(ALL, (1, 1, 1)), (ALL, (2, 2, 2)), (ALL, (2, 2, 2))]),
        # 1 x 1 x 5 mm, then 2 x 2 x 5, 4 x 4 x 5, 8 x 8 x 10
        ((1, 1, 5), (1, 2, 2, 2), [(FLAT, (1, 1, 1)), (FLAT, (2, 2, 1)), (ALL, (2, 2, 1)), (ALL, (2, 2, 2))]),
        # .5 x .5 x 6 mm: in 2D down to 4 x 4 x 6
        (
            (0.5, 0.5, 6),
            (1, 2, 2, 2, 2),
            [(FLAT, (1, 1, 1)), (FLAT, (2, 2, 1)), (FLAT, (2, 2, 1)), (ALL, (2, 2, 1)), (ALL, (2, 2, 2))],
        ),
        # sagittal slices of 3 mm
        ((3, 1, 1), (2, 2), [((True, True, True), (1, 2, 2)), (ALL, (2, 2, 2))]),
        ((1, 1, 2), (1, 2), [(FLAT, (1, 1, 1)), (ALL, (2, 2, 1))]),  # twice as long is not alike
    ],
)
def test_the_rule(voxel_mm, strides, expected) -> None:  # type: ignore[no-untyped-def]
    assert [(step.wide, step.stride) for step in plan(voxel_mm, strides)] == expected


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_flat_kernel_is_the_middle_of_the_cube_with_the_spread_of_its_own_size(kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(64, 64, kernel, stride=2, padding=kernel // 2)
    cube = layer.weight.detach().clone()
    flatten(layer, Step(FLAT, (2, 2, 1)))
    fresh = nn.Conv3d(64, 64, (kernel, kernel, 1))
    assert layer.weight.shape == fresh.weight.shape
    torch.testing.assert_close(layer.weight.detach(), cube[..., kernel // 2, None] * kernel**0.5)
    assert abs(float((layer.weight.std() / fresh.weight.std()).detach()) - 1) < 0.02
    assert layer(torch.rand(1, 64, 9, 9, 4)).shape == (1, 64, 5, 5, 4)


@pytest.mark.parametrize("name", ["small_resnet", "resnet", "segresnet", "densenet", "resenc_unet"])
def test_early_maps_of_a_slice_see_no_other_slice(name: str) -> None:
    if name == "resenc_unet":
        pytest.importorskip("dynamic_network_architectures")
    encoder = tiny_encoder(name, norm="batch", voxel_mm=(1.0, 1.0, 30.0), patch_size=(64, 64, 8))
    x = patches(encoder.config, 1).requires_grad_()
    first = encoder(x)[0]
    assert first.shape[4] == 8
    (gradient,) = torch.autograd.grad(first[..., 3].sum(), x, retain_graph=True)
    assert gradient[..., 3].any() and not gradient[..., :3].any() and not gradient[..., 4:].any()


def test_late_maps_see_the_neighbours() -> None:
    encoder = tiny_encoder("segresnet", voxel_mm=(1.0, 1.0, 5.0), patch_size=(64, 64, 8), blocks=(1, 1, 1, 1))
    assert encoder.stride == (8, 8, 2) == whole_stride(encoder.config.steps)
    x = patches(encoder.config, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x)[-1][..., 1].sum(), x)
    assert gradient[..., 2].any() and gradient[..., 4].any()
