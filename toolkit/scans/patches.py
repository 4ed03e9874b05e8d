"""Patches: where their centres lie, how they are cut, and which class an atlas gives them."""

import numpy as np

from toolkit.errors import DataError


def cut_patches(array: np.ndarray, centres: np.ndarray, patch_size: int) -> np.ndarray:
    """Cubes around voxels; what lies outside the volume is 0.

    Args:
        array: Volume (C, I, J, K).
        centres: Voxel indices (N, 3). An even cube reaches `patch_size // 2` voxels before its centre and one
            less after.
        patch_size: Voxels along each side.

    Returns:
        (N, C, patch_size, patch_size, patch_size), float32.
    """
    before, after = patch_size // 2, patch_size - patch_size // 2
    padded = np.pad(array, [(0, 0), *[(before, after)] * 3])
    corners = np.asarray(centres, int)  # of the padded volume, where the cube around a centre begins
    out = np.empty((len(corners), array.shape[0], patch_size, patch_size, patch_size), np.float32)
    for patch, (i, j, k) in zip(out, corners, strict=True):
        patch[:] = padded[:, i : i + patch_size, j : j + patch_size, k : k + patch_size]
    return out


def sliding_patches(array: np.ndarray, patch_size: int, step: int) -> np.ndarray:
    """Patches on a regular lattice over a preprocessed volume, those that show something.

    Args:
        array: Volume (C, I, J, K) with background 0.
        patch_size: Voxels along each side.
        step: Voxels between neighbouring centres.

    Returns:
        (N, C, patch_size, patch_size, patch_size) float32, N at least 1: centres on the foreground, or the
        volume's middle where the lattice misses it.
    """
    lattice = np.stack(np.meshgrid(*[np.arange((n % step) // 2, n, step) for n in array.shape[1:]], indexing="ij"), -1)
    lattice = lattice.reshape(-1, 3)
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
