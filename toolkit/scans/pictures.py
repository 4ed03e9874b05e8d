"""Pictures of scans and of views, as PNG bytes: a wrong registration is seen, not computed."""

import io

import numpy as np
from matplotlib import colormaps, image
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_COLOURS = colormaps["tab10"]
_SIDES = (("L", "R"), ("P", "A"), ("I", "S"))
"""Where each axis of RAS begins and ends: left and right, posterior and anterior, inferior and superior."""
_GAP = 2  # pixels between panels


def overlay_png(
    array: np.ndarray, classes: np.ndarray | None = None, *, pixels_per_voxel: int = 2, alpha: float = 0.45
) -> bytes:
    """Three planes of a scan through its middle, without and with the atlas on top.

    Args:
        array: Normalised scan (I, J, K) or (1, I, J, K), 0-1, axes RAS.
        classes: Class of each voxel (I, J, K), -1 where none; without it the plain planes only.
        pixels_per_voxel: Size of the picture.
        alpha: Strength of the atlas's colours.

    Returns:
        A PNG: sagittal, coronal and axial plane; the left of an axial plane is the person's left.
    """
    array = array[0] if array.ndim == 4 else array
    panels = []
    for axis in range(3):
        # A quarter off the middle on the left-right axis: the midline itself shows little of the lobes.
        index = array.shape[axis] // 2 if axis else int(array.shape[axis] * 0.4)
        grey = _picture(np.take(array, index, axis))
        panels.append(grey)
        if classes is not None:
            panels.append(_blend(grey, _rotated(np.take(classes, index, axis)), alpha))
    return _png(_row(panels), pixels_per_voxel)


def views_png(columns: list[list[np.ndarray]], *, pixels_per_voxel: int = 3) -> bytes:
    """Middle slices of patches: a column for each place, its original and its views from top to bottom.

    Args:
        columns: For each place, patches (C, I, J, K) or (I, J, K), 0-1.
        pixels_per_voxel: Size of the picture.
    """
    stacks = []
    for patches in columns:
        slices = [_picture(np.take(p[0] if p.ndim == 4 else p, p.shape[-1] // 2, -1)) for p in patches]
        stacks.append(np.concatenate([np.pad(s, ((0, _GAP), (0, 0), (0, 0)), constant_values=255) for s in slices]))
    return _png(_row(stacks), pixels_per_voxel)


def captioned_png(
    columns: list[tuple[str, list[str], np.ndarray]],
    box: tuple[np.ndarray, np.ndarray],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> bytes:
    """A scan and patches of it side by side, three planes through the middle of each, with captions.

    Args:
        columns: Title, lines of the caption and intensities (I, J, K), 0-1, axes RAS. The first column is the scan; its
            planes go through the middle of the box, which is drawn.
        box: First voxel of the scan that the patches show, and the one after the last, (3,) each.
        spacing_mm: Voxel size, for the pictures' proportions.

    Returns:
        A PNG: axial, coronal and sagittal planes from top to bottom. The person's left is on the left (neurological
        convention) and marked L in the scan's planes; a patch may be mirrored or turned, and its axes have no such
        names.
    """
    figure = Figure(figsize=(1.7 * len(columns), 1.7 * 3 + 0.16 * max(len(lines) for _, lines, _ in columns) + 0.5))
    axes = figure.subplots(3, len(columns), squeeze=False)
    for column, (title, lines, array) in enumerate(columns):
        middle = np.asarray(array.shape) // 2 if column else np.clip(np.add(*box) // 2, 0, np.array(array.shape) - 1)
        for row, axis in enumerate((2, 1, 0)):
            panel, across = axes[row, column], [other for other in range(3) if other != axis]
            plane, aspect = np.take(array, middle[axis], axis).T, spacing_mm[across[1]] / spacing_mm[across[0]]
            panel.imshow(plane, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
            panel.set_xticks([])
            panel.set_yticks([])
            if column == 0:
                panel.set_ylabel(("axial", "coronal", "sagittal")[row], fontsize=8)
                low, high = (edge[across] - 0.5 for edge in box)
                panel.add_patch(Rectangle(low, *(high - low), fill=False, edgecolor="#ffb000"))
                for x, side in zip((0.02, 0.98), _SIDES[across[0]], strict=True):
                    panel.text(
                        x, 0.5, side, fontsize=8, color="white", va="center", ha="left" if x < 0.5 else "right",
                        transform=panel.transAxes, bbox={"facecolor": "black", "linewidth": 0, "pad": 1},
                    )  # fmt: skip
        axes[0, column].set_title("\n".join([title, *lines]), fontsize=7, loc="left", parse_math=False)
    figure.supxlabel(
        "The person's left is on the left (neurological convention), but in views that are mirrored or turned.",
        fontsize=7,
    )
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140, facecolor="white", bbox_inches="tight")
    return buffer.getvalue()


def class_colours(num_classes: int) -> list[str]:
    """Hex colours of the classes in `overlay_png`, for a legend."""
    return ["#{:02x}{:02x}{:02x}".format(*_rgb(index)) for index in range(num_classes)]


def _rgb(index: int) -> tuple[int, int, int]:
    red, green, blue, _ = _COLOURS(index % 10, bytes=True)
    return int(red), int(green), int(blue)


def _rotated(plane: np.ndarray) -> np.ndarray:
    return plane.T[::-1]  # the second axis upwards


def _picture(plane: np.ndarray) -> np.ndarray:
    grey = (np.clip(_rotated(plane), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _blend(grey: np.ndarray, classes: np.ndarray, alpha: float) -> np.ndarray:
    colours = np.array([_rgb(index) for index in range(max(int(classes.max()), 0) + 1)])
    painted = grey * (1 - alpha) + colours[np.maximum(classes, 0)] * alpha
    return np.where((classes >= 0)[..., None], painted, grey).astype(np.uint8)


def _row(panels: list[np.ndarray]) -> np.ndarray:
    height = max(panel.shape[0] for panel in panels)
    padded = [
        np.pad(
            p,
            (((height - p.shape[0]) // 2, (height - p.shape[0] + 1) // 2), (0, _GAP), (0, 0)),
            constant_values=0,
        )
        for p in panels
    ]
    return np.concatenate(padded, axis=1)


def _png(rgb: np.ndarray, pixels_per_voxel: int) -> bytes:
    buffer = io.BytesIO()
    image.imsave(buffer, rgb.repeat(pixels_per_voxel, axis=0).repeat(pixels_per_voxel, axis=1), format="png")
    return buffer.getvalue()
