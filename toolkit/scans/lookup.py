"""Which files belong to the series of a manifest: each folder is looked at once, however many series lie in it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from toolkit.console import track
from toolkit.scans.dicom import files_in, series_uid_of, uids_in
from toolkit.scans.isolated import Lost, isolated
from toolkit.scans.reasons import ScanError
from toolkit.scans.volumes import is_folder, split_path

FILES_AT_ONCE = 64


def series_files(paths: Sequence[str], *, num_workers: int, timeout_s: float) -> dict[str, list[Path]]:
    """The files of those series that share a folder, or a tree of folders, with others.

    Args:
        paths: Of a manifest. One that is alone in its folder is left to whoever reads it.
        num_workers: Processes.
        timeout_s: See `isolated`.

    Returns:
        By path. A series is missing if a file is damaged that may belong to it: its reader says so.
    """
    wanted: dict[Path, dict[str, str]] = defaultdict(dict)
    for path in paths:
        place, uid = _place_of(path)
        if uid:
            wanted[place][uid] = path
    tasks, places = [], []
    for place, uids in wanted.items():
        files = _files_of(place) if len(uids) > 1 else []
        batches = [files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE)]
        tasks += [(batch,) for batch in batches]
        places += [place] * len(batches)
    found: dict[str, list[Path]] = defaultdict(list)
    unsure: set[str] = set()
    results = isolated(uids_of_files, tasks, num_workers=min(num_workers, max(len(tasks), 1)), timeout_s=timeout_s)
    for number, result in track(results, "Looking for series", total=len(tasks)):
        path_of = wanted[places[number]]
        if isinstance(result, Lost) or None in result:
            unsure.update(path_of.values())
            continue
        for file, (uids, is_whole) in zip(tasks[number][0], result, strict=True):
            for path in (path_of[uid] for uid in uids & path_of.keys()):
                if is_whole:
                    found[path].append(Path(file))
                else:
                    unsure.add(path)
    return {path: sorted(files) for path, files in found.items() if path not in unsure}


def uids_of_files(files: list[str]) -> list[tuple[set[str], bool] | None]:
    """Of each file the series that it belongs to, or may belong to if it is damaged (False); None for a closed one."""
    return [_uids_of(file) for file in files]


def _uids_of(file: str) -> tuple[set[str], bool] | None:
    try:
        return {series_uid_of(file)}, True
    except ScanError:
        return uids_in(Path(file)), False
    except OSError:
        return None


def _files_of(place: Path) -> list[str]:
    try:
        return files_in(place)
    except OSError:  # its reader will say so
        return []


def _place_of(path: str) -> tuple[Path, str]:
    try:
        place, uid = split_path(path)
        return place, uid if is_folder(place) else ""
    except (OSError, ValueError):
        return Path(path), ""
