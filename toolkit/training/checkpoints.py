"""Checkpoints of a run: written in the background, whole or not at all, checked when they are read.

`step-00000100.pt` holds the state, in torch's format; `step-00000100.json`, written after it, is its record.
"""

import contextlib
import copy
import errno
import hashlib
import json
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from toolkit.console import log
from toolkit.errors import CheckpointError, DiskError

FORMAT = 2
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda state: {**state, "format": 2},  # 1 is the state alone, without a record
}
"""From each older format to the next."""

State = dict[str, Any]
PLAIN_TYPES = (type(None), bool, int, float, str, bytes)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class Checkpoints:
    """The checkpoints of one run. One process writes them; any number may read.

    Between saves it keeps its copy of the state, so that the next save need not ask for memory again.

    Args:
        folder: Where they lie; made by the first save.
        keep: How many to keep; with 2, one is left when the newest is damaged.
        code: What names the version of the code; goes into each record.
    """

    def __init__(self, folder: Path, keep: int = 2, code: Mapping[str, str] = {}) -> None:
        assert keep > 0
        self.folder = folder
        self.keep = keep
        self.code = dict(code)
        self._copy: State = {}
        self._damaged: set[int] = set()
        self._pending: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints", initializer=_set_up_thread)

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        *,
        background: bool = True,
        first: Callable[[], None] | None = None,
    ) -> None:
        """Writes `state` as the checkpoint after `step` steps, then removes the oldest.

        Returns once the state is copied, so that training may go on and change it. An error of the writing comes up
        at the next `save`, `wait`, `newest` or `close`.

        Args:
            step: Optimiser steps that are done.
            state: Tensors, numbers and strings in dicts, lists and tuples.
            background: Whether to return before the state is on the disk.
            first: Called, in the thread that writes, before the checkpoint is there to be found.

        Raises:
            DiskError: The disk is full.
            TypeError: The state holds what `torch.load(weights_only=True)` refuses, such as a NumPy scalar.
        """
        self.wait()
        self._copy = copied(dict(state), self._copy)
        self._pending = self._thread.submit(self._write, step, {**self._copy, "format": FORMAT}, first)
        if not background:
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is being written. Raises the error of the last save, if it had one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def newest(self, num_steps: int | None = None) -> tuple[int, State] | None:
        """The newest whole checkpoint, as steps done and state on the CPU. None if there is none.

        A damaged one is passed over with a warning.

        Args:
            num_steps: Pass over checkpoints of more steps than this.

        Raises:
            CheckpointError: All are damaged, or the newest comes from a newer fewlabel.
        """
        self.wait()
        damage = ""
        for step in self._steps():
            if num_steps is not None and step > num_steps:
                continue
            try:
                state = self._read(step)
            except _Damaged as error:
                log.warning("%s is passed over: %s", self._path(step), error)
                self._damaged.add(step)
                if not isinstance(error, _Unfinished):
                    damage = damage or f"{self._path(step).name}: {error}"
                continue
            return step, state
        if damage:
            raise CheckpointError(
                f"{self.folder}: none of its checkpoints is whole ({damage}); "
                "put back a good copy with its record, or delete this folder to start anew"
            )
        return None

    def record(self, step: int) -> dict[str, Any]:
        """What is written about the checkpoint of `step`: format, step, sha256, bytes, code.

        Format 1 had no records: `code` is empty there.
        """
        path = self._path(step, "json")
        if not path.exists():
            return {"format": 1, "step": step, "code": {}}
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    def close(self) -> None:
        """Waits for the last save and lets go of the thread and the copy.

        Raises:
            DiskError: The disk was full.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._copy = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as own:
            if error is None:
                raise
            log.error("%s", own, exc_info=None if isinstance(own, DiskError) else own)  # `error` is what ended the run

    def _path(self, step: int, suffix: str = "pt") -> Path:
        return self.folder / f"step-{step:08d}.{suffix}"

    def _steps(self) -> list[int]:
        """Steps of which there is a file, the newest first."""
        if not self.folder.exists():
            return []
        matches = (re.fullmatch(r"step-(\d{8,})\.(pt|json)", path.name) for path in self.folder.iterdir())
        return sorted({int(match[1]) for match in matches if match}, reverse=True)

    def _write(self, step: int, state: State, first: Callable[[], None] | None) -> None:
        if first is not None:
            first()
        data, record = self._path(step), self._path(step, "json")
        new_data, new_record = self.folder / f".{data.name}.tmp", self.folder / f".{record.name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".step-*.tmp"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            sha256, size = _write_state(new_data, state)
            about = {"format": FORMAT, "step": step, "sha256": sha256, "bytes": size, "code": self.code}
            with new_record.open("wb") as file:
                file.write(json.dumps(about, indent=2).encode())
                _sync(file)
            new_data.replace(data)
            new_record.replace(record)
            _sync_folder(self.folder)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            good = next((f"the last good checkpoint is step {last}" for last in self._good()), "there is none yet")
            raise DiskError(
                f"{data} was not saved: the disk is full; {good}; "
                "free some space and run the same command again: it continues"
            ) from error
        finally:
            new_data.unlink(missing_ok=True)
            new_record.unlink(missing_ok=True)
        self._damaged.discard(step)
        self._rotate(step)

    def _good(self) -> list[int]:
        """Steps of checkpoints that nothing is known against, the newest first."""
        return [step for step in self._steps() if step not in self._damaged and self._path(step).exists()]

    def _rotate(self, newest: int) -> None:
        """Keeps `newest` and the good ones before it. Later ones are damaged, or the run went back behind them."""
        keep = [step for step in self._good() if step <= newest][: self.keep]
        for step in self._steps():
            if step not in keep:
                self._path(step, "json").unlink(missing_ok=True)  # first, so that a kill leaves no record without data
                self._path(step).unlink(missing_ok=True)
                self._damaged.discard(step)

    def _read(self, step: int) -> State:
        path, record_path = self._path(step), self._path(step, "json")
        if not path.exists():
            raise _Damaged("there is its record, but not the file")
        if record_path.exists():
            try:
                record = self.record(step)
                _refuse_newer(path, record["format"])
                size, sha256, recorded_step = record["bytes"], record["sha256"], record["step"]
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
                raise _Damaged(f"its record {record_path.name} cannot be read") from None
            if recorded_step != step:
                raise _Damaged(f"its record {record_path.name} is that of step {recorded_step}")
            if path.stat().st_size != size:
                raise _Damaged(f"it has {path.stat().st_size} bytes, its record says {size}")
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise _Damaged("its SHA-256 is not that of its record")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # bytes at random raise nearly anything, AssertionError included
            raise _Damaged(f"torch cannot load it safely ({type(error).__name__}: {_first_sentence(error)})") from None
        if not isinstance(state, dict):
            raise _Damaged(f"it holds a {type(state).__name__} instead of a state")
        if "format" in state and not record_path.exists():
            raise _Unfinished("it has no record, so its saving was cut short")
        return _migrated(path, state)


class _Damaged(Exception):
    """A checkpoint that cannot be used, and why."""


class _Unfinished(_Damaged):
    """The data without the record: what a kill between the two leaves. It counts as no checkpoint at all."""


class _HashingFile:
    """Hashes and counts what is written to `file`, and remembers its error, which torch.save loses."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, content: memoryview) -> int:
        try:
            self.file.write(content)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(content)
        self.size += len(content)
        return len(content)

    def flush(self) -> None:
        self.file.flush()


def _set_up_thread() -> None:
    """Lets the training's threads go first: each waits for the slowest of them, on a CPU this one's core included."""
    torch.serialization.set_crc32_options(False)  # of this thread's files alone; their record has a SHA-256
    if sys.platform == "linux":  # elsewhere the priority is that of the whole process
        thread = threading.get_native_id()
        # 19 starves it where the cores are full. Of a run that is as nice itself: to be less so is forbidden.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(10, os.getpriority(os.PRIO_PROCESS, thread)))


def _write_state(path: Path, state: State) -> tuple[str, int]:
    """Writes `state` through to the disk; returns the file's SHA-256 and its size in bytes."""
    with path.open("wb") as file:
        hashing = _HashingFile(file)
        try:
            torch.save(state, hashing)  # type: ignore[arg-type]  # write and flush are all that it needs
        except RuntimeError as error:
            raise hashing.error or error from None
        _sync(file)
    return hashing.hash.hexdigest(), hashing.size


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes renames in `folder` outlast a power cut, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copied(value: Any, earlier: Any = None, where: str = "state") -> Any:
    """A copy of a state in the CPU's memory, in the tensors of `earlier` where they fit."""
    if isinstance(value, Tensor):
        fits = isinstance(earlier, Tensor) and earlier.shape == value.shape and earlier.dtype == value.dtype
        if not fits:
            earlier = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
        return earlier.copy_(value.detach())
    if type(value) in (dict, OrderedDict):
        result = copy.copy(value)  # keeps the `_metadata` that a module's state carries as an attribute
        before = earlier if isinstance(earlier, dict) else {}
        for key, item in value.items():
            result[key] = copied(item, before.get(key), f"{where}[{key!r}]")
        return result
    if type(value) in (list, tuple):
        parts = list(earlier) if isinstance(earlier, list | tuple) else []
        parts += [None] * (len(value) - len(parts))
        return type(value)(copied(item, parts[i], f"{where}[{i}]") for i, item in enumerate(value))
    if type(value) not in PLAIN_TYPES:  # also NumPy's float64, though it is a float
        raise TypeError(f"{where} is a {type(value).__name__}, which torch.load(weights_only=True) would refuse")
    return value


def _first_sentence(error: Exception) -> str:
    """Not the rest: torch goes on to advise `weights_only=False`."""
    return str(error).partition("\n")[0].partition(". ")[0]


def _refuse_newer(path: Path, version: int) -> None:
    if version > FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, this fewlabel knows up to {FORMAT}; upgrade fewlabel to continue this run"
        )


def _migrated(path: Path, state: State) -> State:
    while (version := state.get("format", 1)) < FORMAT:
        state = MIGRATIONS[version](state)
    _refuse_newer(path, version)
    return state
