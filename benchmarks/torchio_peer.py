"""TorchIO in an interpreter of its own: `views` starts this program there, and asks it for the time of some views."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

DEGREES, ZOOM, SIGMA, GAMMA, CONTRAST, BRIGHTNESS, NOISE = 15.0, 1.2, 1.0, 1.5, 0.25, 0.1, 0.05
"""Limits of the draws, on all sides."""
BATCH_ON_CPU, BATCH_ON_GPU = 4, 16

Side = Callable[[], float]
"""Makes some views and gives the milliseconds of one."""


def made_up_volume(side: int) -> Any:
    """A smooth random volume (1, side, side, side) float32 in 0-1."""
    import numpy as np

    coarse = np.random.default_rng([side]).random((side // 4,) * 3)
    volume = coarse.repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    for axis in range(3):
        volume = sum(np.roll(volume, step, axis) for step in range(4)) / 4
    return volume[None].astype(np.float32)


def timed(make: Callable[[int], Any], num_views: int, finished: Callable[[], object] = lambda: None) -> Side:
    """A side from what makes the next `n` views."""

    def run() -> float:
        started = time.perf_counter()
        make(num_views)
        finished()
        return 1000 * (time.perf_counter() - started) / num_views

    make(num_views)  # compiles, and fills caches
    return run


def in_its_interpreter(python: str, size: dict[str, int], device: str) -> tuple[str, Side] | None:
    """The version of TorchIO that `python` has, and its side; None if it cannot use the device."""
    command = [python, "-m", "benchmarks.torchio_peer", json.dumps([size, device])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    pipe = subprocess.PIPE
    try:
        peer = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | threads)
    except OSError as error:
        sys.exit(f"benchmarks: {python}: {error.strerror}; --torchio takes the path of a Python interpreter")

    def next_line() -> Any:
        line = peer.stdout.readline()  # type: ignore[union-attr]
        if not line:
            sys.exit(
                f"benchmarks: {python}: TorchIO does not run there (see above); benchmarks.views says how to make it"
            )
        return json.loads(line)

    version = next_line()
    if version is None:
        return None

    def ask() -> float:
        print(file=peer.stdin, flush=True)
        return float(next_line())

    return version, ask


def torchio_views(volume: Any, patch: int, device: str) -> Callable[[int], Any]:
    """What makes views with the TorchIO of this interpreter."""
    import torch
    import torchio as tio

    image = torch.from_numpy(volume).to(device)
    generator = torch.Generator().manual_seed(0)
    zooms, log_gamma = (1 / ZOOM, ZOOM), (-math.log(GAMMA), math.log(GAMMA))

    def crop() -> Any:
        i, j, k = torch.randint(volume.shape[1] - patch + 1, (3,), generator=generator).tolist()
        return image[:, i : i + patch, j : j + patch, k : k + patch].clone()

    if tio.__version__.startswith("1."):
        one_by_one = tio.Compose(
            [
                tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
                tio.RandomAffine(scales=zooms, degrees=DEGREES, isotropic=True, default_pad_value=0),
                tio.RandomBlur(std=(0, SIGMA)),
                tio.RandomGamma(log_gamma=log_gamma),
                tio.RandomNoise(std=(0, NOISE)),
            ]
        )

        def make_each(num_views: int) -> None:
            for _ in range(num_views):
                one_by_one(tio.Subject(image=tio.ScalarImage(tensor=crop())))

        return make_each

    batchwise = tio.Compose(
        [
            tio.Flip(axes=(0, 1, 2), flip_probability=0.5),
            tio.Affine(scales=zooms, degrees=DEGREES, isotropic=True, default_pad_value=0),
            tio.Blur(std=(0, SIGMA)),
            tio.Gamma(log_gamma=log_gamma),
            tio.Noise(std=(0, NOISE)),
        ]
    )
    at_once = BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU

    def make(num_views: int) -> None:
        for _ in range(0, num_views, at_once):
            subjects = [tio.Subject(image=tio.ScalarImage(crop())) for _ in range(at_once)]
            batchwise(tio.SubjectsBatch.from_subjects(subjects))

    return make


def main() -> None:
    """For each line that comes in, the milliseconds of a view go out; first the version, or null without the device."""
    import SimpleITK as sitk
    import torch
    import torchio as tio

    size, device = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if device == "cuda" and (tio.__version__.startswith("1.") or not torch.cuda.is_available()):
        print(json.dumps(None), flush=True)
        return
    finished = torch.cuda.synchronize if device == "cuda" else lambda: None
    side = timed(torchio_views(made_up_volume(size["volume"]), size["patch"], device), size["views"], finished)
    print(json.dumps(tio.__version__), flush=True)
    for _ in sys.stdin:
        print(json.dumps(side()), flush=True)


if __name__ == "__main__":
    main()
