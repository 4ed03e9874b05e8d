"""What a view is made with, as plain arrays: drawn once, applied by a deterministic twin on the CPU or the GPU."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewParameters:
    """What the draws came to, for V views. Arrays of what no view does have a side of 0.

    Attributes:
        matrices: (V, 3, 4) float32, patch voxel (i, j, k, 1) to the offset in voxels from the sample's centre.
        displacements: (V, 3, G, G, G) float32 coefficients of a cubic B-spline in source voxels, or (V, 3, 0, 0, 0);
            the patch spans G - 3 cells along each axis.
        blur_sigma: (V,) float32, voxels; 0 leaves the view sharp.
        low_resolution: (V, 3) int64, voxels along each axis of the coarser grid; the patch's own where nothing changes.
        bias: (V, 6) float32, coefficients of the bias field's logarithm in x y z xx yy zz over -1..1.
        gamma: (V,) float32 exponent.
        inverted: (V,) bool, whether the exponent is that of the negative.
        contrast: (V,) float32 factor about 1/2.
        brightness: (V,) float32, added to the foreground.
        filter_axis: (V,) int64, axis of `filters`, -1 where a view has none.
        filters: (V, 2, P) float32, real and imaginary part of a circular filter, of whose result the magnitude is
            taken, or (V, 2, 0).
        noise: (V,) float32, standard deviation.
        rician: (V,) float32, standard deviation of both parts.
        noise_offsets: (V, 3) int64, where in the noise bank Gaussian noise and Rician noise's two parts begin.
        outer_mask: (V, N, 2, 3) int64, windows that stay, from the first voxel to before the last; N is 0 where no view
            has any, and empty windows where this view has none.
        inner_mask: (V, N, 2, 3) int64, windows that get `mask_value`.
        cutout: (V, N, 2, 3) int64, boxes that become 0.
        mask_value: (V,) float32.
    """

    matrices: np.ndarray
    displacements: np.ndarray
    blur_sigma: np.ndarray
    low_resolution: np.ndarray
    bias: np.ndarray
    gamma: np.ndarray
    inverted: np.ndarray
    contrast: np.ndarray
    brightness: np.ndarray
    filter_axis: np.ndarray
    filters: np.ndarray
    noise: np.ndarray
    rician: np.ndarray
    noise_offsets: np.ndarray
    outer_mask: np.ndarray
    inner_mask: np.ndarray
    cutout: np.ndarray
    mask_value: np.ndarray

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, rows: slice | np.ndarray) -> "ViewParameters":
        """The parameters of some of the views."""
        return ViewParameters(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """All arrays by name, as `render_batch` takes them. Each has a row a view, as other entries of a batch do."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}


def identity_parameters(patch_size: int, num_views: int) -> ViewParameters:
    """Parameters that only cut the patch out."""
    zeros, ones = np.zeros(num_views, np.float32), np.ones(num_views, np.float32)
    matrices = np.zeros((num_views, 3, 4), np.float32)
    matrices[:, [0, 1, 2], [0, 1, 2]] = 1
    matrices[:, :, 3] = -(patch_size // 2)
    no_boxes = np.zeros((num_views, 0, 2, 3), np.int64)
    return ViewParameters(
        matrices=matrices,
        displacements=np.zeros((num_views, 3, 0, 0, 0), np.float32),
        blur_sigma=zeros,
        low_resolution=np.full((num_views, 3), patch_size),
        bias=np.zeros((num_views, 6), np.float32),
        gamma=ones,
        inverted=np.zeros(num_views, bool),
        contrast=ones,
        brightness=zeros,
        filter_axis=np.full(num_views, -1),
        filters=np.zeros((num_views, 2, 0), np.float32),
        noise=zeros,
        rician=zeros,
        noise_offsets=np.zeros((num_views, 3), np.int64),
        outer_mask=no_boxes,
        inner_mask=no_boxes,
        cutout=no_boxes,
        mask_value=zeros,
    )
