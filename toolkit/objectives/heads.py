"""The small networks behind an encoder: projectors, expanders and predictors, all of one make."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

HeadNorm = Literal["batch", "layer", "none"]
_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}


def mlp_head(
    in_dim: int, hidden_dims: Sequence[int], out_dim: int, norm: HeadNorm = "batch", *, norm_last: bool = False
) -> nn.Sequential:
    """Linear layers, with a norm and a ReLU after each but the last (Chen et al. 2020, arXiv:2002.05709, 4.2).

    The last layer has no bias, as in the code of SimCLR and VICReg: what is added to all samples tells none of them
    apart.

    Args:
        in_dim: Features that come in.
        hidden_dims: Width of each hidden layer.
        out_dim: Features that go out.
        norm: "batch" sees the batch, and is refused where a process has it in portions; "layer" and "none" do not.
        norm_last: Whether a norm without weights follows the last layer too, as in SimSiam and MoCo v3.
    """
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers += [nn.Linear(in_dim, width, bias=norm == "none"), _NORMS[norm](width), nn.ReLU(inplace=True)]
        in_dim = width
    layers.append(nn.Linear(in_dim, out_dim, bias=False))
    if norm_last:
        last = {"batch": {"affine": False}, "layer": {"elementwise_affine": False}, "none": {}}[norm]
        layers.append(_NORMS[norm](out_dim, **last))
    return nn.Sequential(*layers)
