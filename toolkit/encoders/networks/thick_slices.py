"""Thick slices: along the long side of voxels a network is flat until the other sides have grown to it.

nnU-Net's rule (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): at each step only those axes are made coarser
whose voxels are less than twice as long as the shortest; kernels are of 1 along an axis until, at their step's
resolution, it is among them. So a network for slices of 5 mm begins in 2D and ends in 3D.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from toolkit.encoders.networks.base import Triple

NEAR = 2.0
"""Sides of a voxel that differ by less than this factor count as alike."""


@dataclass(frozen=True)
class Step:
    """One step of a network towards coarser maps, along each axis.

    Attributes:
        wide: Whether kernels reach beyond one voxel.
        stride: Voxels of the step's input that one cell of its output stands for.
    """

    wide: tuple[bool, bool, bool]
    stride: Triple


def plan(voxel_mm: tuple[float, float, float] | None, strides: Sequence[int]) -> list[Step]:
    """The steps of a network for voxels of this size.

    Args:
        voxel_mm: Sides of a voxel; cubes if not given.
        strides: Each step's stride where voxels are cubes.
    """
    sides_mm, wide, steps = list(voxel_mm or (1.0, 1.0, 1.0)), [False] * 3, []
    for stride in strides:
        along = [stride if side < NEAR * min(sides_mm) else 1 for side in sides_mm]
        sides_mm = [side * step for side, step in zip(sides_mm, along, strict=True)]
        wide = [was or side < NEAR * min(sides_mm) for was, side in zip(wide, sides_mm, strict=True)]
        steps.append(Step((wide[0], wide[1], wide[2]), (along[0], along[1], along[2])))
    return steps


def whole_stride(steps: Sequence[Step]) -> Triple:
    """The strides of all steps together."""
    i, j, k = (prod(along) for along in zip(*(step.stride for step in steps), strict=True))
    return i, j, k


def flatten(part: nn.Module, step: Step) -> None:
    """Gives the convolutions and poolings of `part`, made for cubes, the kernels and strides of `step`, in place."""
    if all(step.wide) and len(set(step.stride)) == 1:
        return
    for layer in part.modules():
        if not isinstance(layer, nn.Conv3d | nn.MaxPool3d | nn.AvgPool3d):
            continue
        if max(_three(layer.stride)) > 1:
            layer.stride = step.stride
        if isinstance(layer, nn.AvgPool3d):  # it has no padding: what stays fine is not averaged
            layer.kernel_size = step.stride
            continue
        for axis in (axis for axis, wide in enumerate(step.wide) if not wide):
            if isinstance(layer, nn.Conv3d):
                layer.weight = nn.Parameter(_middle(layer.weight.detach(), axis + 2))
            layer.kernel_size = _with(layer.kernel_size, axis, 1)
            layer.padding = _with(layer.padding, axis, 0)


def _middle(weight: Tensor, dim: int) -> Tensor:
    """A kernel's middle plane. Initial weights shrink with the root of a kernel's size, so they grow here by it."""
    size = weight.shape[dim]
    return weight.narrow(dim, size // 2, 1).mul(size**0.5).contiguous()


def _three(value: Any) -> Triple:
    return (value, value, value) if isinstance(value, int) else value


def _with(value: Any, axis: int, one: int) -> Triple:
    i, j, k = (one if number == axis else size for number, size in enumerate(_three(value)))
    return i, j, k
