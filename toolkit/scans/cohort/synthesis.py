"""`synthesize`: a whole cohort, in parallel, taken up again where it was cut off."""

import json
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from toolkit.config import read_yaml, to_yaml
from toolkit.console import log, track
from toolkit.cores import num_cores
from toolkit.errors import DataError
from toolkit.files import replace_folder, write_atomically
from toolkit.scans.cohort.card import write_card
from toolkit.scans.cohort.config import CohortConfig
from toolkit.scans.cohort.heads import Head, heads
from toolkit.scans.cohort.subjects import MASKS, SCANS, write_subject

LABEL_COLUMNS = ["path", "subject", "accession", "label", "kind", "mask"]
_CONFIG, _RECORDS, _PARTIAL, _LOCK = "cohort.yaml", ".records", ".partial", ".lock"
_SUBJECTS_A_WORKER = 20  # by default; with fewer, starting a process takes longer than it saves


def synthesize(config: CohortConfig, out: str | Path, *, num_workers: int | None = None) -> pd.DataFrame:
    """Makes a cohort of people who do not exist.

    Writes below `out`:

    - `scans/`: DICOM series or NIfTI files, as a PACS or BIDS would lay them out;
    - `masks/`: each lesion on the grid of its series, NIfTI, 0 and 1;
    - `labels.csv`: `path, subject, accession, label, kind, mask`, one row a series, paths from `out`: for
      `fewlabel data audit OUT/scans --link OUT/labels.csv` and `fewlabel data build --label-maps OUT/labels.csv`;
    - `truth.csv`: these and all else that is known, such as the lesion's volume and the centre of its mask in the
      series' own millimetres;
    - `card.md`: a data card that says SYNTHETIC; `cohort.yaml`: the configuration.

    Each subject appears whole or not at all. The same call goes on with a cohort that was cut off, and a larger
    `num_subjects` adds to it: who is there already stays as is. Any number of workers gives the same bytes.

    Args:
        config: The cohort.
        out: The folder, made if missing.
        num_workers: Processes. Default: one for each CPU, as far as there is work for them.

    Returns:
        `truth.csv`.

    Raises:
        DataError: `out` holds something else, another cohort, or more subjects; another process writes to it.
        FetchError: The demo's heads cannot be fetched; `brain: parametric` needs no network.
    """
    out = Path(out)
    _check_folder(config, out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / _LOCK, timeout=0):
            return _synthesize(config, out, num_workers)
    except Timeout:
        raise DataError(f"{out}: another process is writing this cohort; wait for it") from None


def _synthesize(config: CohortConfig, out: Path, num_workers: int | None) -> pd.DataFrame:
    write_atomically(out / _CONFIG, to_yaml(config).encode())
    shutil.rmtree(out / _PARTIAL, ignore_errors=True)
    for name in (SCANS, MASKS, _RECORDS, _PARTIAL):
        (out / name).mkdir(exist_ok=True)
    numbers = range(1, config.num_subjects + 1)
    todo = [number for number in numbers if not _is_there(out, number)]
    if todo:
        done = config.num_subjects - len(todo)
        loaded = heads(config.brain, config.spacing_mm)
        num_workers = min(num_workers or num_cores(), -(-len(todo) // (1 if num_workers else _SUBJECTS_A_WORKER)))
        for _ in track(_each(config, todo, loaded, out, num_workers), "making subjects", config.num_subjects, done):
            pass
    truth = pd.DataFrame([row for number in numbers for row in _record(out, number)])
    write_atomically(out / "truth.csv", truth.to_csv(index=False).encode())
    write_atomically(out / "labels.csv", truth[LABEL_COLUMNS].to_csv(index=False).encode())
    write_card(config, truth, out / "card.md")
    shutil.rmtree(out / _PARTIAL)
    log.info("%d subjects with %d series in %s", config.num_subjects, len(truth), out)
    return truth


def _each(
    config: CohortConfig, todo: list[int], loaded: tuple[Head, ...], out: Path, num_workers: int
) -> Iterator[None]:
    if num_workers == 1:
        for number in todo:
            yield _one(config, number, loaded, out)
        return
    pool = ProcessPoolExecutor(num_workers, _context(), _start_worker, (config, loaded, out))
    try:
        for future in as_completed([pool.submit(_one_in_worker, number) for number in todo]):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{out}: a worker process died, of too little memory perhaps; the same command continues, "
            "with fewer --workers it needs less"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    """Workers come from a process that has imported this module and done nothing: torch's threads survive no fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


_given: tuple[CohortConfig, tuple[Head, ...], Path]


def _start_worker(*given: Any) -> None:
    global _given
    _given = given  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends the others


def _one_in_worker(number: int) -> None:
    config, loaded, out = _given
    _one(config, number, loaded, out)


def _one(config: CohortConfig, number: int, loaded: tuple[Head, ...], out: Path) -> None:
    """Makes one subject beside its place, moves it there, and only then records it."""
    partial = out / _PARTIAL / f"{number:05d}"
    with threadpool_limits(1):  # sums over several threads have other last bits
        rows = write_subject(config, number, loaded, partial)
    for name in (SCANS, MASKS):
        for folder in (partial / name).glob("*"):
            replace_folder(folder, out / name / folder.name)
    shutil.rmtree(partial)
    write_atomically(_record_path(out, number), json.dumps(rows, indent=1).encode())


def _record_path(out: Path, number: int) -> Path:
    return out / _RECORDS / f"{number:05d}.json"


def _record(out: Path, number: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_record_path(out, number).read_text(encoding="utf-8"))
    return rows


def _is_there(out: Path, number: int) -> bool:
    if not _record_path(out, number).exists():
        return False
    return all((out / row[key]).exists() for row in _record(out, number) for key in ("path", "mask"))


def _check_folder(config: CohortConfig, out: Path) -> None:
    """Sees to it that `out` is empty or holds this very cohort, or less of it."""
    path = out / _CONFIG
    if not path.exists():
        if out.exists() and any(name.name != _LOCK for name in out.iterdir()):
            raise DataError(f"{out}: is not empty and holds no cohort; give another folder")
        return
    stored, given = read_yaml(path), config.model_dump(mode="json")
    num_stored = stored.pop("num_subjects", 0)
    given.pop("num_subjects")
    other = sorted(key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key))
    if other:
        raise DataError(
            f"{out}: holds a cohort with another {', '.join(other)}; give another folder, or the values of "
            f"{path.name} there"
        )
    if num_stored > config.num_subjects:
        raise DataError(
            f"{out}: holds a cohort of {num_stored} subjects; a cohort can be made larger, not smaller: give another "
            "folder"
        )
