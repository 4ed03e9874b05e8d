"""What was done to a view, in a few words: captions of pictures."""

import numpy as np

from toolkit.scans.views.parameters import ViewParameters

_AXES = "IJK"


def describe(parameters: ViewParameters, row: int, patch_size: int) -> list[str]:
    """A line for each thing that was done to one view, in the order in which it is done; none where nothing was."""
    p = parameters[row : row + 1]
    return [*_geometry(p, patch_size), *_intensities(p, patch_size), *_damage(p)]


def _geometry(p: ViewParameters, patch_size: int) -> list[str]:
    linear, translation = p.matrices[0, :, :3].astype(np.float64), p.matrices[0, :, 3]
    middle = (patch_size - 1) / 2
    moved = np.linalg.norm(linear.sum(axis=1) * middle + translation - middle + patch_size // 2)
    scale = np.cbrt(np.abs(np.linalg.det(linear)))
    flips = np.sign(np.diag(linear))  # right up to turns of 90 degrees
    cosine = (np.trace(linear / scale * flips) - 1) / 2
    degrees = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
    mirrored = "".join(axis for axis, sign in zip(_AXES, flips, strict=True) if sign < 0)
    lines = [
        f"moved {moved:.1f} voxels" if moved > 0.05 else "",
        f"turned {degrees:.0f}°" if degrees > 0.5 else "",
        f"mirrored along {mirrored}" if mirrored else "",
        f"enlarged {1 / scale:.2f} x" if abs(scale - 1) > 5e-3 else "",
    ]
    if p.displacements.any():
        lines.append(f"deformed, up to {np.linalg.norm(p.displacements[0], axis=0).max():.1f} voxels")
    return list(filter(None, lines))


def _intensities(p: ViewParameters, patch_size: int) -> list[str]:
    coarse = {axis: size for axis, size in zip(_AXES, p.low_resolution[0], strict=True) if size < patch_size}
    lines = [f"blurred {p.blur_sigma[0]:.1f} voxels"] if p.blur_sigma[0] > 0 else []
    if coarse:
        lines.append(f"{min(coarse.values())} of {patch_size} voxels along {''.join(coarse)}")
    if p.bias.any():
        lines.append(f"bias field {np.abs(p.bias).max():.2f}")
    if p.gamma[0] != 1:
        lines.append(f"gamma {p.gamma[0]:.2f}" + (" of the negative" if p.inverted[0] else ""))
    if p.contrast[0] != 1:
        lines.append(f"contrast x {p.contrast[0]:.2f}")
    if abs(p.brightness[0]) > 5e-3:
        lines.append(f"brightness {p.brightness[0]:+.2f}")
    return lines


def _damage(p: ViewParameters) -> list[str]:
    lines = [f"ghosts or motion along {_AXES[p.filter_axis[0]]}"] if p.filter_axis[0] >= 0 else []
    lines += [f"noise {p.noise[0]:.3f}"] if p.noise[0] > 0 else []
    lines += [f"Rician noise {p.rician[0]:.3f}"] if p.rician[0] > 0 else []
    for name, what in (("outer_mask", "{} windows kept"), ("inner_mask", "{} windows masked"), ("cutout", "cut-out")):
        count = int(getattr(p, name)[0].any(axis=(1, 2)).sum())
        lines += [what.format(count).replace("1 windows", "1 window")] if count else []
    return lines
