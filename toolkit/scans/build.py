"""From a manifest to a store: each scan once, by all cores, whatever is wrong with some of them."""

import functools
import hashlib
import re
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.config import digest
from toolkit.console import log, track
from toolkit.cores import num_cores
from toolkit.errors import DataError
from toolkit.private import write_private
from toolkit.scans.crops import stored_candidates
from toolkit.scans.isolated import Lost, isolated
from toolkit.scans.labels import label_map_paths, resampled_label_map
from toolkit.scans.lookup import series_files
from toolkit.scans.manifest import content_hash, read_manifest, scan_files
from toolkit.scans.preprocessing import BELOW_IS_HU, Preprocessing, is_hounsfield, preprocess
from toolkit.scans.reasons import Reason
from toolkit.scans.sources import Sources
from toolkit.scans.store import StoredVolume, VolumeStore, store_key
from toolkit.scans.volumes import Volume, one_line_errors, quiet_readers, read_files

REFUSED_FILE = "build_refused.csv"
MAX_LISTED = 20
SOURCES_FILE = "sources.jsonl"


@dataclass(frozen=True)
class Build:
    """What a build came to.

    Attributes:
        rows: The manifest, with a column `key`; empty where the row was refused or not asked for.
        stored: Each row's scan in the store, None where `key` is empty.
        refused: `row` (from 1), `path` and `reason` of what was refused.
        made: `row` (from 0), `seconds`, `voxels_read`, `voxels` and `num_bytes` of what is new in the store.
    """

    rows: pd.DataFrame
    stored: list[StoredVolume | None]
    refused: pd.DataFrame
    made: pd.DataFrame


def build_store(
    manifest: Path,
    spec: Preprocessing,
    folder: Path,
    *,
    label_maps: str = "",
    channels: int | None = None,
    num_workers: int | None = None,
    timeout_s: float = 600.0,
    verify: bool = False,
    only: Container[int] | None = None,
) -> Build:
    """Preprocesses the scans of a manifest into a store; what is stored already is not read again.

    A row that cannot be used does not stop the others. Each finished scan is kept, so a build that was cut off goes on
    where it was, and several at once share the work.

    Args:
        manifest: A CSV as `fewlabel data audit` writes it. `sources.jsonl` beside it remembers size and time of each
            source file, so that unchanged ones need not be read to know that they are.
        spec: Spacing, intensities, foreground, crop.
        folder: The store.
        label_maps: Where each scan's label map lies; see `labels.label_map_paths`.
        channels: How many a scan must have; by default any number.
        num_workers: Processes; by default one a core. A file that crashes its reader, or that unpacks to more than the
            memory holds, costs its own scan and nothing else.
        timeout_s: A scan that takes longer is refused.
        verify: Read every source again and compare it with its content hash.
        only: Build no other rows than these, from 0.

    Raises:
        DataError: The manifest as a whole cannot be used.
        DiskError: No room for the store.
    """
    rows = read_manifest(manifest)
    masks = label_map_paths(rows, label_maps)
    store, sources = VolumeStore(folder), Sources(manifest.parent / SOURCES_FILE)
    store.sweep()
    stored: list[StoredVolume | None] = [None] * len(rows)
    keys, todo, refused, made = [""] * len(rows), [], {}, []
    paths, states = rows["path"].tolist(), []
    for number, (path, recorded) in track(
        enumerate(zip(paths, rows["content_hash"], strict=True)), "Looking up scans", total=len(rows)
    ):
        states.append(sources.state(path, masks[number]))
        hashes = None if verify else sources.hashes(path, masks[number], states[number])
        key = key_of(*hashes, spec) if hashes and hashes[0] == recorded else ""
        if key and (found := store.find(key)):
            keys[number], stored[number] = key, found
        elif only is None or number in only:
            todo.append(number)
    _warn_of_percentiles(rows["modality"], spec)
    num_workers = num_workers or num_cores()
    files = series_files([paths[number] for number in todo], num_workers=num_workers, timeout_s=timeout_s)
    columns = list(zip(paths, rows["content_hash"], rows["modality"], masks, strict=True))
    tasks = [(*columns[number], spec, folder, channels, files.get(paths[number])) for number in todo]
    results = isolated(store_scan, tasks, num_workers=min(num_workers, max(len(tasks), 1)), timeout_s=timeout_s)
    for place, result in track(results, "Storing scans", total=len(tasks)):
        number = todo[place]
        if isinstance(result, Lost):
            refused[number] = f"{result.reason}: {result.detail}"
        elif "refused" in result:
            refused[number] = result["refused"]
        else:
            keys[number], stored[number] = result["key"], store.get(result["key"])
            sources.remember(paths[number], masks[number], states[number], result["hashes"])
            made += [{"row": number} | result["made"]] if result["made"] else []
    for number, scan in enumerate(stored):
        if scan and channels is not None and scan.num_channels != channels:  # of those that were there already
            keys[number], stored[number], refused[number] = "", None, _wrong_channels(scan.num_channels, channels)
    listed = [{"row": n + 1, "path": paths[n], "reason": refused[n]} for n in sorted(refused)]
    return Build(
        rows.assign(key=keys),
        stored,
        pd.DataFrame(listed, columns=["row", "path", "reason"]),
        pd.DataFrame(made, columns=["row", "seconds", "voxels_read", "voxels", "num_bytes"]),
    )


def store_manifest(
    manifest: Path, spec: Preprocessing, folder: Path, *, channels: int | None = None, label_maps: str = ""
) -> tuple[list[StoredVolume], pd.DataFrame]:
    """`build_store` for a run, which must not go on without some of its scans.

    Args:
        manifest: See `build_store`.
        spec: See there.
        folder: See there.
        channels: How many the encoder takes.
        label_maps: See `build_store`.

    Returns:
        The stored scans in the manifest's order, and the manifest's rows.

    Raises:
        DataError: A row cannot be used; the rows are named, and `write_refused` tells their owner why.
    """
    built = build_store(manifest, spec, folder, channels=channels, label_maps=label_maps)
    if not built.refused.empty:
        # A run's log is shown around, and a scan's path may name a person: the reasons go to the private folder.
        numbers = ", ".join(map(str, built.refused["row"][:MAX_LISTED]))
        more = len(built.refused) - MAX_LISTED
        raise DataError(
            f"{manifest}: {len(built.refused)} of its scans cannot be used (row {numbers}"
            f"{f' and {more} more' if more > 0 else ''}); {write_refused(manifest, built)} says which and why: mend "
            "them, or take the rows out"
        )
    log.info("%d scans of %d subjects in %s", len(built.rows), built.rows["subject"].nunique(), folder)
    return [scan for scan in built.stored if scan], built.rows


def write_refused(manifest: Path, built: Build) -> Path:
    """`build_refused.csv` beside the manifest, for its owner's eyes: the audit's own refusals stay as they are."""
    path = manifest.parent / REFUSED_FILE
    write_private(path, built.refused[["path", "reason"]].to_csv(index=False).encode("utf-8"))
    return path


def key_of(scan_hash: str, label_map_hash: str, spec: Preprocessing) -> str:
    """Where the store keeps a scan, with its label map or without."""
    both = hashlib.sha256(f"{scan_hash} {label_map_hash}".encode()).hexdigest() if label_map_hash else scan_hash
    return store_key(both, digest(spec))


def store_scan(
    path: str,
    recorded: str,
    modality: str,
    label_map: str,
    spec: Preprocessing,
    folder: Path,
    channels: int | None,
    files: list[Path] | None = None,
) -> dict[str, Any]:
    """Stores one scan, in any process.

    Args:
        path: Of the manifest, as the next two.
        recorded: The content hash.
        modality: DICOM's word, or "".
        label_map: Its file, or "".
        spec: See `build_store`.
        folder: See there.
        channels: See there.
        files: Of a DICOM series, where they are known, see `series_files`.

    Returns:
        `refused`, why; or `key`, `hashes` of the sources, and `made`, what it took, None where the scan was there
        already.
    """
    try:
        with quiet_readers():
            return _stored(path, recorded, modality, label_map, spec, VolumeStore(folder), channels, files)
    except DataError as error:
        return {"refused": " ".join(str(error).split()).removeprefix(f"{path}: ")}
    except MemoryError:
        return {"refused": f"{Reason.TOO_LARGE}: does not fit into the memory; use fewer --workers"}


def _stored(
    path: str,
    recorded: str,
    modality: str,
    label_map: str,
    spec: Preprocessing,
    store: VolumeStore,
    channels: int | None,
    files: list[Path] | None,
) -> dict[str, Any]:
    if not re.fullmatch("[0-9a-f]{64}", recorded):  # rows with the same wrong hash would share one scan
        raise DataError(f"content_hash is {recorded!r}, not 64 hex digits; `fewlabel data audit` writes it")
    with one_line_errors(path):
        files = files or scan_files(path)
        if content_hash(files) != recorded:
            raise DataError("changed since the manifest was written; write it anew with `fewlabel data audit`")
        hashes = recorded, content_hash(scan_files(label_map)) if label_map else ""
    key = key_of(*hashes, spec)
    made: dict[str, Any] = {}

    def make() -> Volume:
        # Nobody holds the raw scan besides `preprocess`, so that it is freed midway.
        scan = preprocess(_read(path, files, modality, spec, channels, made), spec, overwrite=True)
        made["voxels"] = scan.array.size
        return scan

    started = time.perf_counter()
    stored = store.get_or_make(key, make, functools.partial(resampled_label_map, label_map) if label_map else None)
    stored_candidates(stored)  # else the first steps of a run would look each scan through
    if made:
        made |= {"seconds": time.perf_counter() - started, "num_bytes": stored.num_bytes}
    return {"key": key, "hashes": hashes, "made": made}


def _read(
    path: str, files: list[Path], modality: str, spec: Preprocessing, channels: int | None, made: dict[str, Any]
) -> Volume:
    volume = read_files(files, path, whole=True)
    made["voxels_read"] = volume.array.size
    if channels is not None and len(volume.array) != channels:
        raise DataError(_wrong_channels(len(volume.array), channels))
    in_hu = is_hounsfield(volume.array, spec)
    if spec.intensity == "modality" and modality == "CT" and not in_hu:
        raise DataError(f"is CT without a voxel below {BELOW_IS_HU:g}: Hounsfield units? If so, intensity=window")
    if in_hu and modality not in ("", "CT", "CT?"):
        advice = "intensity=modality" if spec.intensity == "window" else "export it again"
        raise DataError(f"is {modality}, but by its intensities or by `intensity` it would be taken for CT; {advice}")
    return volume


def _warn_of_percentiles(modalities: pd.Series, spec: Preprocessing) -> None:
    num_ct = int(modalities.str.startswith("CT").sum())
    if num_ct and spec.intensity in ("percentiles", "zscore") and spec.foreground == "positive":
        log.warning("%d scans are CT, and lose what is below 0 HU (lung, fat); intensity=modality keeps it", num_ct)


def _wrong_channels(found: int, wanted: int) -> str:
    return (
        f"the scan has {found} channels where {wanted} are wanted; a 4-D file (a time series, diffusion, several "
        "echoes) counts as channels: keep one volume of it"
    )
