"""What a store will take, before it is built: a few scans are timed, the others reckoned from the manifest."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolkit.cores import num_cores
from toolkit.scans.build import build_store
from toolkit.scans.preprocessing import Preprocessing

SAMPLE = 5


@dataclass(frozen=True)
class Plan:
    """What a build would take.

    Attributes:
        num_scans: Rows of the manifest.
        num_left: Those that are not stored yet.
        num_sampled: How many of them were built to see; they are not kept.
        num_bytes: Of all scans in the store, about; None where nothing could be sampled.
        float_bytes: Of the same voxels as float32.
        seconds: That those left will take, about; None likewise.
        num_workers: With so many processes.
        refused: Rows of the sample that cannot be used, see `Build`.
    """

    num_scans: int
    num_left: int
    num_sampled: int
    num_bytes: float | None
    float_bytes: float
    seconds: float | None
    num_workers: int
    refused: pd.DataFrame


def plan_store(manifest: Path, spec: Preprocessing, folder: Path, **options: Any) -> Plan:
    """Builds up to five scans, from the smallest to the largest, and reckons what all take; nothing of them is kept.

    Size goes with the voxels of the stored grid, time with these and the raw ones; the manifest has `shape` and
    `spacing_mm`. A crop to the foreground is as large for the others as for the sample.

    Args:
        manifest: See `build_store`.
        spec: See there.
        folder: See there.
        **options: See there.
    """
    before = build_store(manifest, spec, folder, only=(), **options | {"verify": False})
    raw, grid = _voxels(before.rows, spec)
    left = np.flatnonzero(before.rows["key"] == "")
    by_size = left[np.argsort(grid[left], kind="stable")]
    sample = by_size[np.unique(np.linspace(0, len(by_size) - 1, min(SAMPLE, len(by_size))).astype(int))]
    private = manifest.parent if os.access(manifest.parent, os.W_OK) else None  # else the system's place, mode 0700
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=private) as name:
        beside = shutil.copy(manifest, name)  # a build remembers beside its manifest what it read
        built = build_store(Path(beside), spec, Path(name, "store"), only=sample.tolist(), **options)
    num_workers = options.get("num_workers") or num_cores()
    made = built.made
    num_bytes = seconds = None
    if len(made):
        voxels, voxels_read, taken = made["voxels"].sum(), made["voxels_read"].sum(), made["seconds"].sum()
        share = voxels / grid[made["row"]].sum()  # channels make it more than 1, a crop less
        num_bytes = float(made["num_bytes"].sum() / voxels * share * grid.sum())
        work = voxels_read / raw[made["row"]].sum() * raw[left] + share * grid[left]
        seconds = float(taken / (voxels_read + voxels) * work.sum() / min(num_workers, len(left)))
    return Plan(
        len(before.rows), len(left), len(sample), num_bytes, 4.0 * grid.sum(), seconds, num_workers, built.refused
    )


def _voxels(rows: pd.DataFrame, spec: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Raw voxels of each scan and those of its grid; the median where a row does not say."""
    raw, grid = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for number, row in enumerate(rows.to_dict("records")):
        try:
            shape = np.array([int(n) for n in row["shape"].split("x")])
            spacing = np.array([float(n) for n in row["spacing_mm"].split("x")])
            raw[number], grid[number] = shape.prod(), np.ceil(shape * spacing / spec.spacing_mm - 1e-3).prod()
        except (KeyError, ValueError):
            continue
    if np.isnan(grid).all():
        return np.ones(len(rows)), np.ones(len(rows))
    return np.where(np.isnan(raw), np.nanmedian(raw), raw), np.where(np.isnan(grid), np.nanmedian(grid), grid)
