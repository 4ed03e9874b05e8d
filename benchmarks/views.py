"""What does a random view cost? fewlabel's kernels against MONAI's dictionary chain and against TorchIO, on one core.

    python -m benchmarks.views [--quick] [--torchio PYTHON ...]

A view of 96^3 voxels out of a volume of 160^3: random crop, three flips (half of the time each), rotation and zoom,
blur, contrast, brightness, gamma and white noise (always), between the same limits on all sides, drawn anew for each
view. The volume lies in memory as each side keeps it: int16 and a scale, as in fewlabel's store, and float32 for the
others; fewlabel's time from float32 is under `values`. All use one thread. TorchIO has no contrast and brightness, and
is let off. A round is some views of each side; a ratio is the median over rounds of the ratio within a round.

TorchIO needs packages that fewlabel does not, so it runs in its own interpreter, which `--torchio` or
`FEWLABEL_TORCHIO` names (several: one after the other, or separated by colons) and which needs nothing else:

    python -m venv torchio-1 && torchio-1/bin/pip install "torchio<2"
    python -m venv torchio-2 && torchio-2/bin/pip install "torchio>=2.0.0a2"

TorchIO 2 takes batches; here it gets four views at a time. Where that interpreter's torch and this one's see a CUDA
device, a batch of 16 is also made on it, by `render_batch` and by TorchIO 2.

Ratios (milliseconds a view, peer/ours): `monai` (at least 4, aim 6), `torchio` (the least of its versions, at least 2),
`torchio_gpu` (at least 2). What cannot be measured is left out, with a word.
"""

import argparse
import math
import os
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.report import finish, interleaved, median_ratio, refuse_without
from benchmarks.torchio_peer import (
    BATCH_ON_GPU,
    BRIGHTNESS,
    CONTRAST,
    DEGREES,
    GAMMA,
    NOISE,
    SIGMA,
    ZOOM,
    Side,
    in_its_interpreter,
    made_up_volume,
    timed,
)

try:
    import numpy as np
    import torch
    from monai import transforms
    from monai.data import MetaTensor

    from toolkit.scans import ViewConfig, apply_parameters, render_batch, sample_parameters, source_box
    from toolkit.training import set_num_threads
except ModuleNotFoundError as missing:
    refuse_without(missing)

FULL = {"volume": 160, "patch": 96, "views": 8}
QUICK = {"volume": 48, "patch": 24, "views": 4}
STORED_MAX = 4095  # 12 bits


def view_config(patch: int) -> ViewConfig:
    """The operations that all sides make."""
    return ViewConfig(
        patch_size=patch, shift_voxels=0, flip_probability=(0.5, 0.5, 0.5), rotation_degrees=DEGREES, zoom=ZOOM,
        blur_probability=1, blur_sigma_voxels=SIGMA, bias_field_probability=0, gamma=GAMMA,
        gamma_inverted_probability=0, contrast=CONTRAST, brightness=BRIGHTNESS, noise=NOISE,
    )  # fmt: skip


def fewlabel(source: np.ndarray, patch: int, scale: float) -> Callable[[int], None]:
    """Parameters and kernels."""
    config, rng, done = view_config(patch), np.random.default_rng(0), 0

    def make(num_views: int) -> None:
        nonlocal done
        for number in range(done, done + num_views):
            centre = rng.integers(patch // 2, source.shape[1] - patch // 2 + 1, (1, 3))
            parameters = sample_parameters(config, 0, 0, np.array([number]), 0)
            apply_parameters(source, centre, parameters, patch, scale=scale)
        done += num_views

    return make


def monai(volume: np.ndarray, patch: int) -> Callable[[int], None]:
    """MONAI's dictionary transforms, as its tutorials chain them."""
    turn, sigmas = math.radians(DEGREES), {f"sigma_{axis}": (0, SIGMA) for axis in "xyz"}
    affine = {"rotate_range": (turn,) * 3, "scale_range": (ZOOM - 1,) * 3, "padding_mode": "zeros", "mode": "bilinear"}
    chain = transforms.Compose(
        [
            transforms.RandSpatialCropd("image", roi_size=(patch,) * 3, random_size=False),
            *(transforms.RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(3)),
            transforms.RandAffined("image", prob=1, **affine),
            transforms.RandGaussianSmoothd("image", prob=1, **sigmas),
            transforms.RandAdjustContrastd("image", prob=1, gamma=(1 / GAMMA, GAMMA)),
            transforms.RandScaleIntensityd("image", prob=1, factors=CONTRAST),
            transforms.RandShiftIntensityd("image", prob=1, offsets=BRIGHTNESS),
            transforms.RandGaussianNoised("image", prob=1, std=NOISE),
        ]
    )
    chain.set_random_state(0)
    image = MetaTensor(volume)

    def make(num_views: int) -> None:
        for _ in range(num_views):
            chain({"image": image})

    return make


def batches_on_gpu(volume: np.ndarray, patch: int) -> Callable[[int], None]:
    """`render_batch` on the card: boxes cut out of a volume there, parameters from the host."""
    config, rng, side, done = view_config(patch), np.random.default_rng(0), volume.shape[1], 0
    rim = side // 2  # of zeros, so that each box lies in the array
    stored = np.pad(np.rint(volume * STORED_MAX).astype(np.int16), [(0, 0), *[(rim, rim)] * 3])
    source = torch.from_numpy(stored).cuda()

    def make(num_views: int) -> None:
        nonlocal done
        for first in range(done, done + num_views, BATCH_ON_GPU):
            parameters = sample_parameters(config, 0, 0, np.arange(first, first + BATCH_ON_GPU), 0)
            low, high = source_box(parameters, patch)
            box = (high - low).max(axis=0)
            corners = rng.integers(patch // 2, side - patch // 2 + 1, (BATCH_ON_GPU, 3)) + rim + low
            crops = [source[(slice(None), *(slice(a, a + n) for a, n in zip(c, box, strict=True)))] for c in corners]
            tensors = {name: tensor.cuda(non_blocking=True) for name, tensor in parameters.tensors().items()}
            render_batch(torch.stack(crops), torch.from_numpy(-low).cuda(), tensors, patch, scale=1 / STORED_MAX)
        done += num_views

    return make


def gpu_comparison(
    volume: np.ndarray, size: dict[str, int], pythons: list[str], num_rounds: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Ratios and values of batches on the card."""
    size = size | {"views": 2 * BATCH_ON_GPU}
    ours = timed(batches_on_gpu(volume, size["patch"]), size["views"], torch.cuda.synchronize)
    peers = [peer for python in pythons if (peer := in_its_interpreter(python, size, "cuda"))]
    sides = {"fewlabel": ours} | {f"torchio_{version}": side for version, side in peers}
    found = interleaved(sides, num_rounds)
    values = {f"{name}_gpu_ms": statistics.median(times) for name, times in found.items()}
    ours_ms = found.pop("fewlabel")
    if not found:
        print("no interpreter with TorchIO 2 that sees the CUDA device is named: torchio_gpu is left out")
        return {}, values
    return {"torchio_gpu": min(median_ratio(times, ours_ms) for times in found.values())}, values


def main() -> None:
    """Runs all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=7, help="of each comparison, 5 at least for a result")
    parser.add_argument("--torchio", action="append", metavar="PYTHON", help="an interpreter that has TorchIO")
    options = parser.parse_args()
    size, num_rounds = (QUICK, 2) if options.quick else (FULL, options.rounds)
    pythons = options.torchio or list(filter(None, os.environ.get("FEWLABEL_TORCHIO", "").split(":")))
    threads, volume = set_num_threads(1), made_up_volume(size["volume"])
    stored = np.rint(volume * STORED_MAX).astype(np.int16)
    sides: dict[str, Side] = {
        "fewlabel": timed(fewlabel(stored, size["patch"], 1 / STORED_MAX), size["views"]),
        "fewlabel_float32": timed(fewlabel(volume, size["patch"], 1.0), size["views"]),
        "monai": timed(monai(volume, size["patch"]), size["views"]),
    }
    peers = [peer for python in pythons if (peer := in_its_interpreter(python, size, "cpu"))]
    sides |= {f"torchio_{version}": side for version, side in peers}
    if not peers:
        print("no interpreter with TorchIO is named (--torchio, FEWLABEL_TORCHIO): torchio is left out")
    found = interleaved(sides, num_rounds)
    advantages = {name: median_ratio(times, found["fewlabel"]) for name, times in found.items()}
    ratios = {"monai": advantages["monai"]}
    if peers:
        ratios["torchio"] = min(advantages[f"torchio_{version}"] for version, _ in peers)
    values: dict[str, Any] = {"quick": options.quick} | {f"{k}_ms": statistics.median(v) for k, v in found.items()}
    values["monai_over_fewlabel_float32"] = median_ratio(found["monai"], found["fewlabel_float32"])
    values |= {f"{name}_over_fewlabel": ratio for name, ratio in advantages.items() if name.startswith("torchio")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if gpu:
        more_ratios, more_values = gpu_comparison(volume, size, pythons, num_rounds)
        ratios, values = ratios | more_ratios, values | more_values
    else:
        print("no CUDA device: the batch on a GPU is left out")
    finish("views", ratios, values, threads=threads, gpu=gpu)


if __name__ == "__main__":
    main()
