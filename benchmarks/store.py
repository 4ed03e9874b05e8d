"""How long does a crop take out of a stored scan, how much room does the scan take, and what does the build cost?

    python -m benchmarks.store [--quick]

A 96^3 crop of a 256^3 scan at a random place, warm, on one core, as float32: from the store (compressed chunks of
int16), from a float32 memory map, and from MONAI's PersistentDataset, which loads the whole `.pt` and then crops. Once
for a CT-like scan (whole Hounsfield units, noise, air around) and once for an MR-like one. Each round takes every crop
of a list of places on each side. The 36^3 crop is what a training step on 24^3 patches reads, 256 times.

Building goes through `fewlabel data build`'s own function, all cores at once, from int16 NIfTI files at the stored
spacing's 1.25-fold.

Memory is a worker's peak, over what it needs without a scan, in volumes of the larger of both grids as float32: of a CT
in each form that is read (the float32 ones hold fractions, which do not fit int16), with a label map, and of an MR-like
scan without a voxel of background, stored at voxels of 1 mm (the stored grid is the larger one), of 2.5 mm (the raw one
is), of 1.25 mm (both are one) and of 1.26 mm (they are nearly one).

Ratios: `persistent` (peer/ours, limit 10), `memmap` (peer/ours; a memory map decompresses nothing), `limit` (2.5 ms /
ours as raw int16), `bytes` (40 % of float32's bytes / ours), the worse of the two scans each; `memory` (2 volumes / the
largest peak).
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import finish, interleaved, median_ratio, refuse_without

try:
    import nibabel as nib
    import numpy as np
    import pandas as pd
    import SimpleITK as sitk
    import torch
    from monai.data import PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropd
    from scipy import ndimage

    from toolkit.cores import num_cores
    from toolkit.scans import Preprocessing, StoredVolume, Volume, VolumeStore, build_store, preprocess, read_volume
    from toolkit.scans.build import store_scan
    from toolkit.scans.cohort import write_series
    from toolkit.scans.manifest import content_hash, scan_files
except ModuleNotFoundError as missing:
    refuse_without(missing)

LIMIT_MS, LIMIT_SHARE, LIMIT_VOLUMES = 2.5, 0.4, 2.0
FORMS = (
    "int16 .nii", "int16 .nii.gz", "float32 .nii.gz", "int16 .nrrd", "float32 .nrrd", "slices", "frames", "labelled",
    "mr .nii",
)  # fmt: skip
SPECS = {
    "ct": Preprocessing(spacing_mm=(1, 1, 1), intensity="window"),
    "mr": Preprocessing(spacing_mm=(1, 1, 1)),
}


def phantom(kind: str, side: int, seed: int) -> "np.ndarray":
    """A body of smooth organs before air, with a scanner's noise: Hounsfield units, or an MR image's arbitrary ones."""
    rng = np.random.default_rng([seed])
    coarse = ndimage.gaussian_filter(rng.normal(size=(side // 4,) * 3), 1.5)
    organs = ndimage.zoom((coarse / coarse.std()).astype(np.float32), 4, order=1)
    axis = np.square(np.linspace(-1, 1, side, dtype=np.float32))
    body = axis[:, None, None] / 0.8 + axis[None, :, None] / 0.6 + axis[None, None, :] / 0.9 < 1
    noise = rng.standard_normal((side,) * 3, np.float32)
    if kind == "ct":
        return np.rint(np.where(body, 40 + 60 * organs, -1000) + 15 * noise).astype(np.int16)
    signal = np.where(body, 600 + 150 * organs, 0)
    rician = np.hypot(signal + 20 * noise, 20 * np.roll(noise, side // 2, 0))
    return np.where(body, np.rint(np.maximum(rician, 1)), 0).astype(np.int16)


def write(path: Path, array: "np.ndarray", spacing_mm: float) -> Path:
    """A NIfTI file, or a packed NRRD file."""
    if path.suffix == ".nrrd":
        image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
        image.SetSpacing((spacing_mm,) * 3)
        sitk.WriteImage(image, str(path), useCompression=True)
    else:
        nib.save(nib.Nifti1Image(array, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])), path)
    return path


def crop_sides(folder: Path, kind: str, side: int, size: int, num_crops: int) -> tuple[dict[str, Any], StoredVolume]:
    """Seconds a crop, one function a side, each over the same places; and the stored scan."""
    volume = preprocess(read_volume(write(folder / f"{kind}.nii", phantom(kind, side, 0), 1.0)), SPECS[kind])
    stored = VolumeStore(folder / "store").put(kind, volume)
    np.save(folder / f"{kind}.npy", volume.array)
    mapped = np.load(folder / f"{kind}.npy", mmap_mode="r")
    nib.save(nib.Nifti1Image(volume.array[0], volume.affine), folder / f"{kind}-preprocessed.nii")
    loading = [LoadImaged("image"), EnsureChannelFirstd("image")]
    cropping = RandSpatialCropd("image", (size,) * 3, random_size=False)
    items = [{"image": str(folder / f"{kind}-preprocessed.nii")}]
    persistent = PersistentDataset(items, Compose([*loading, cropping]), folder / f"{kind}-cache")
    places = np.random.default_rng([1]).integers(0, side - size, (num_crops, 3)).tolist()
    scale, offset = np.float32(stored.scale), np.float32(stored.offset)

    def timed(cut: Callable[[list[int]], Any], times: int = num_crops) -> Callable[[], float]:
        def measure() -> float:
            started = time.perf_counter()
            for place in places[:times]:
                cut(place)
            return (time.perf_counter() - started) / times

        measure()  # into the page cache, and a first look at each chunk's checksum
        return measure

    def of_map(place: list[int], size: int = size) -> "np.ndarray":
        i, j, k = (slice(a, a + size) for a in place)
        return np.array(mapped[:, i, j, k])

    sides = {
        "ours": timed(lambda place: stored.crop(place, (size,) * 3) * scale + offset),
        "ours_int16": timed(lambda place: stored.crop(place, (size,) * 3)),
        "memmap": timed(of_map),
        "persistent": timed(lambda place: persistent[0], max(3, num_crops // 10)),
        "ours_36": timed(lambda place: stored.crop(place, (36,) * 3)),
        "memmap_36": timed(lambda place: of_map(place, 36)),
    }
    return sides, stored


def write_form(folder: Path, form: str, array: "np.ndarray") -> tuple[Path, str]:
    """A scan of voxels of 1.25 mm in one of `FORMS`, and the path of its label map or ""."""
    folder.mkdir()
    kind, _, suffix = form.partition(" ")
    if kind in ("slices", "frames"):
        volume = Volume(array[None].astype(np.float32), np.diag([1.25, 1.25, 1.25, 1.0]))
        write_series(volume, folder, modality="CT", rescale=(1.0, -1024.0), multiframe=kind == "frames")
        return folder, ""
    voxels = array * np.float32(1.1) if kind == "float32" else array + np.int16(2000) if kind == "mr" else array
    path = write(folder / f"scan{suffix or '.nii'}", voxels, 1.25)
    labels = write(folder / "labels.nii.gz", (array > 60).astype(np.uint8), 1.25) if kind == "labelled" else ""
    return path, str(labels)


def peak(folder: Path, form: str, spacing_mm: float) -> float:
    """What this process needs to store one scan, above what it needs after a tiny one, in volumes."""

    def store(name: str) -> dict[str, Any]:
        path, labels = json.loads((folder / f"{name}.json").read_text())
        spec = SPECS["mr" if form.startswith("mr") else "ct"].model_copy(update={"spacing_mm": (spacing_mm,) * 3})
        found = store_scan(path, content_hash(scan_files(path)), "", labels, spec, folder / "peak", None)
        assert "made" in found, found
        made: dict[str, Any] = found["made"]
        return made

    store(f"tiny {form}")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = resident("VmHWM")
    made = store(form)
    return (resident("VmHWM") - before) / 4 / max(made["voxels"], made["voxels_read"])


def resident(what: str) -> int:
    """Bytes of this process, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def peaks(folder: Path, side: int) -> dict[str, float]:
    """A worker's peak in volumes, by form and stored spacing; measured in processes that do nothing else."""
    array = phantom("ct", side, 0)
    for number, form in enumerate(FORMS):
        for name, voxels in ((form, array), (f"tiny {form}", array[::8, ::8, ::8])):
            written = write_form(folder / f"{number}{name[:4]}", form, voxels)
            (folder / f"{name}.json").write_text(json.dumps([str(part) for part in written]))
    command = [sys.executable, "-m", "benchmarks.store", "--peaks", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def building(folder: Path, kind: str, side: int, num_scans: int) -> dict[str, float]:
    """Scans a minute with all cores, and the seconds of one."""
    array = phantom(kind, side, 0)
    rows = []
    for number in range(num_scans):
        path = write(folder / f"{kind}-{number}.nii", np.roll(array, number, 2), 1.25)
        rows.append({"path": path, "subject": number, "content_hash": content_hash([path])})
    pd.DataFrame(rows).to_csv(folder / f"{kind}.csv", index=False)
    started = time.perf_counter()
    built = build_store(folder / f"{kind}.csv", SPECS[kind], folder / f"{kind}-built")
    seconds = time.perf_counter() - started
    assert built.refused.empty, built.refused
    return {"scans_per_min": 60 * num_scans / seconds, "s_per_scan": built.made["seconds"].median()}


def main() -> None:
    """Runs all sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=7, help="5 at least for a result")
    parser.add_argument("--peaks", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peaks:
        which = [(options.peaks, form, spacing_mm) for form in FORMS for spacing_mm in (1.0, 1.25, 1.26, 2.5)]
        with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:  # none knows the others' memory
            volumes = pool.starmap(peak, which, chunksize=1)
        print(json.dumps({f"{form}, {mm:g} mm": value for (_, form, mm), value in zip(which, volumes, strict=True)}))
        return
    torch.set_num_threads(1)
    side, size, num_crops, rounds = (96, 40, 5, 1) if options.quick else (256, 96, 40, options.rounds)
    num_scans = 5 if options.quick else 8 * num_cores()
    values: dict[str, Any] = {"quick": options.quick}
    found: dict[str, list[float]] = {}
    for kind in SPECS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sides, stored = crop_sides(folder, kind, side, size, num_crops)
            times = interleaved(sides, rounds)
            build = building(folder, kind, side, num_scans)
        share = stored.num_bytes / (4 * side**3)
        for ratio, value in {
            "persistent": median_ratio(times["persistent"], times["ours"]),
            "memmap": median_ratio(times["memmap"], times["ours"]),
            "limit": LIMIT_MS / (1e3 * statistics.median(times["ours_int16"])),
            "bytes": LIMIT_SHARE / share,
        }.items():
            found.setdefault(ratio, []).append(value)
        values |= {f"{kind}_{side_name}_ms": 1e3 * statistics.median(row) for side_name, row in times.items()}
        values |= {f"{kind}_share_of_float32": share} | {f"{kind}_build_{key}": value for key, value in build.items()}
    with tempfile.TemporaryDirectory() as name:
        volumes = peaks(Path(name), side)
    ratios = {key: min(row) for key, row in found.items()} | {"memory": LIMIT_VOLUMES / max(volumes.values())}
    values |= {f"peak_volumes, {form}": value for form, value in volumes.items()}
    finish("store", ratios, values, threads=1, processes=num_cores())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
