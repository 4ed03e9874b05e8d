"""How far two views of one place may differ: each augmentation has a probability and a strength."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from toolkit.config import Section

MAX_BLUR_SIGMA = 2.0
"""Voxels. The Gaussian is cut off at three deviations."""

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

# What a CT leaves alone unless one of the group's keys is given: a Hounsfield number means the same in every scan.
_LEFT_ALONE_IN_CT = {
    "gamma_probability": ("gamma",),
    "gamma_inverted_probability": (),
    "bias_field_probability": ("bias_field",),
    "rician_probability": ("rician",),
}


class ViewConfig(Section):
    """How far two views of one place may differ. A probability says how often, a strength bounds a uniform draw.

    The order is that of the fields: geometry (one interpolation), blur, resolution, shading, k-space, noise, masks.
    """

    modality: Literal["mr", "ct"] = "mr"
    """Sets defaults only: in ct, gamma, its inversion, bias field and Rician noise are off unless asked for."""
    made_on: Literal["auto", "workers", "device"] = "auto"
    """Who makes the views that are trained on: the processes that prepare batches, or the device that trains, all of a
    batch at once, of crops that those processes cut. Both make the same but for rounding. auto: the device, if CUDA."""
    patch_size: int = Field(24, ge=4, le=512)
    """Voxels along each side of the cubic patch."""
    shift_voxels: NonNegative = 4.0
    """The centre moves by up to this along each axis, so that two views overlap in part."""
    rotation_probability: Probability = 1.0
    """How often a view is turned."""
    rotation_degrees: NonNegative = 15.0
    """About each axis."""
    zoom_probability: Probability = 1.0
    """How often a view is scaled."""
    zoom: float = Field(1.2, ge=1, le=4)
    """Scale between 1/zoom and zoom, the same along all axes."""
    flip_probability: tuple[Probability, Probability, Probability] = (0.5, 0.0, 0.0)
    """Mirror images along I (left-right), J and K. Only left-right is anatomy's own symmetry."""
    crop_resize_probability: Probability = 0.0
    """How often a smaller cube somewhere in the patch is enlarged to the patch's size."""
    crop_resize: float = Field(0.6, gt=0, le=1)
    """Side of the smallest such cube, as a share of the patch's."""
    elastic_probability: Probability = 0.0
    """How often a view is deformed."""
    elastic_voxels: NonNegative = 2.0
    """Displacement of the control points of a cubic B-spline along each axis; no voxel moves further."""
    elastic_cells: int = Field(3, ge=1, le=16)
    """Cells of the spline's coarse grid along each side of the patch."""
    blur_probability: Probability = 0.5
    """How often a view is blurred."""
    blur_sigma_voxels: float = Field(1.0, ge=0, le=MAX_BLUR_SIGMA)
    """Deviation of the Gaussian."""
    low_resolution_probability: Probability = 0.0
    """How often a view is averaged over larger voxels and interpolated back; along one axis half of the time."""
    low_resolution: float = Field(2.0, ge=1, le=8)
    """Side of the larger voxels, in voxels."""
    bias_field_probability: Probability = 1.0
    """How often a view gets the shading of a coil."""
    bias_field: NonNegative = 0.2
    """Coefficients of a smooth multiplicative shading (quadratic in its logarithm)."""
    gamma_probability: Probability = 1.0
    """How often intensities are bent."""
    gamma: float = Field(1.5, ge=1, le=10)
    """Exponent between 1/gamma and gamma, of the intensity or of its negative."""
    gamma_inverted_probability: Probability = 0.5
    """How often, of those bent, the negative is."""
    contrast_probability: Probability = 1.0
    """How often contrast changes."""
    contrast: float = Field(0.25, ge=0, lt=1)
    """Contrast factor about the middle intensity, between 1 - contrast and 1 + contrast."""
    brightness_probability: Probability = 1.0
    """How often brightness changes."""
    brightness: NonNegative = 0.1
    """Added to the intensities of the foreground (0-1)."""
    ghosting_probability: Probability = 0.0
    """How often a view has ghosts: every so many lines of k-space along one axis are weaker."""
    ghosting: float = Field(0.5, ge=0, le=1)
    """How much weaker, 1 being silent."""
    motion_probability: Probability = 0.0
    """How often the patient moves twice along one axis while k-space is read."""
    motion_voxels: NonNegative = 2.0
    """How far, each time."""
    noise_probability: Probability = 1.0
    """How often a view has white noise."""
    noise: NonNegative = 0.05
    """Its standard deviation, in units of the 0-1 intensity."""
    rician_probability: Probability = 0.0
    """How often a view has Rician noise, as magnitude images of MR have."""
    rician: NonNegative = 0.05
    """Standard deviation of its two parts."""
    outer_mask_probability: Probability = 0.0
    """How often only some windows are left (Models Genesis' outer cut-out, Zhou et al. 2021)."""
    outer_mask: Share = 0.57
    """Side of the largest window that stays, as a share of the patch's; the smallest has three quarters of it."""
    inner_mask_probability: Probability = 0.0
    """How often some windows are masked (Models Genesis' inner cut-out, Zhou et al. 2021)."""
    inner_mask: Share = 0.33
    """Side of the largest masked window, as a share of the patch's; the smallest has half of it."""
    cutout_probability: Probability = 0.0
    """How often one box becomes background (DeVries & Taylor 2017)."""
    cutout: Share = 0.5
    """Side of the largest box, as a share of the patch's; the smallest has half of it."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_modality(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("modality") != "ct":
            return values
        off = {key: 0.0 for key, group in _LEFT_ALONE_IN_CT.items() if not values.keys() & set(group)}
        return off | values
