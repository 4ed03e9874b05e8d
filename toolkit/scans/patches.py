"""Patches: where their centres lie, how they are cut, and which class an atlas gives them."""

from collections.abc import Sequence

import numpy as np

from toolkit.errors import DataError


def cut_patches(array: np.ndarray, centres: np.ndarray, patch_size: int | Sequence[int]) -> np.ndarray:
    """Boxes around voxels; what lies outside the volume is 0.

    Args:
        array: Volume (C, I, J, K).
        centres: Voxel indices (N, 3). An even side reaches half of its voxels before the centre and one less after.
        patch_size: Voxels along each side, one number or three.

    Returns:
        (N, C, *sides), float32.
    """
    sides = np.broadcast_to(patch_size, 3)
    padded = np.pad(array, [(0, 0), *((side // 2, side - side // 2) for side in sides)])
    corners = np.asarray(centres, int)  # of the padded volume, where the box around a centre begins
    out = np.empty((len(corners), array.shape[0], *sides), np.float32)
    for patch, corner in zip(out, corners, strict=True):
        box = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
        patch[:] = padded[(slice(None), *box)]
    return out


def sliding_patches(array: np.ndarray, patch_size: int | Sequence[int], step: int | Sequence[int]) -> np.ndarray:
    """Patches on a regular lattice over a preprocessed volume, those that show something.

    Args:
        array: Volume (C, I, J, K) with background 0.
        patch_size: Voxels along each side, one number or three.
        step: Voxels between neighbouring centres, one number or three.

    Returns:
        (N, C, *sides) float32, N at least 1: centres on the foreground, or the volume's middle where the lattice
        misses it.
    """
    axes = [np.arange((n % one) // 2, n, one) for n, one in zip(array.shape[1:], np.broadcast_to(step, 3), strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    inside = (array[:, lattice[:, 0], lattice[:, 1], lattice[:, 2]] > 0).any(axis=0)
    centres = lattice[inside] if inside.any() else np.asarray([array.shape[1:]]) // 2
    return cut_patches(array, centres, patch_size)


def balanced_centres(classes: np.ndarray, num_classes: int, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels drawn at random, equally many of each class.

    Args:
        classes: Class of each voxel (I, J, K), -1 where it has none.
        num_classes: K; every class 0 to K - 1 is drawn.
        per_class: Voxels of each.
        seed: The draw is a function of the arguments and this alone.

    Returns:
        Voxel indices (K * per_class, 3) and their classes (K * per_class,), class by class.

    Raises:
        DataError: A class has fewer voxels than `per_class`.
    """
    centres = []
    for index in range(num_classes):
        voxels = np.argwhere(classes == index)
        if len(voxels) < per_class:
            raise DataError(f"class {index} has {len(voxels)} voxels where {per_class} are asked for; lower the number")
        rng = np.random.default_rng([seed, index])
        centres.append(voxels[np.sort(rng.choice(len(voxels), per_class, replace=False))])
    return np.concatenate(centres), np.repeat(np.arange(num_classes), per_class)


def world_positions(affine: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Voxel indices (N, 3) to world millimetres (N, 3), float32."""
    return (centres @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)


def voxel_places(affine: np.ndarray, positions_mm: np.ndarray) -> np.ndarray:
    """World millimetres (N, 3) to places on the voxel grid (N, 3), not rounded."""
    inverse = np.linalg.inv(affine)
    return np.asarray(positions_mm) @ inverse[:3, :3].T + inverse[:3, 3]
