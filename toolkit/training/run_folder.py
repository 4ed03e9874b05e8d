"""The folder of one run: its configuration, metrics, timings, provenance and checkpoints.

Everything that makes two runs equal goes to `metrics.jsonl`; every clock goes to `timings.jsonl`.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from toolkit.config import RunConfig, Section, read_yaml, to_yaml
from toolkit.console import log
from toolkit.errors import CheckpointError
from toolkit.files import write_atomically
from toolkit.training.provenance import provenance

WORK = ("checkpoints", "metrics.jsonl", "tokenizer", "cells", "results.csv", "scans", "text")
"""What a run leaves that depends on its values."""
OF_THE_MACHINE = {"num_workers", "worker_timeout_s", "checkpoint_every", "keep_checkpoints", "on_collapse", "store"}
"""Fields that change no weight and no metric: a run may go on with others."""


class RunFolder:
    """A run's folder. Nothing is written there before `begin`, so a start that is refused leaves nothing.

    Args:
        path: The folder.
        config: The run's resolved configuration. A folder that holds another one is refused.
        ignore: Top-level keys of the configuration that may differ besides those of `RunConfig.of_this_start`.
        data: Digest of each data card or manifest that is used. A folder that was made with others is refused: its
            checkpoint may have seen what is test data now.

    Attributes:
        options: How this start of the run goes about it: `plan`, `profile_steps`, `force`, `trackers`.

    Raises:
        CheckpointError: The folder was made with other values or data, and `force` is not set; the message names them.
    """

    def __init__(
        self, path: Path, config: Section, ignore: Iterable[str] = (), data: dict[str, str] | None = None
    ) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.timings_path = path / "timings.jsonl"
        self.alarms_path = path / "alarms.jsonl"
        self.options = config if isinstance(config, RunConfig) else RunConfig(output=path, trackers=())
        self._config, self._data = config, data or {}
        self._config_path, self._provenance_path = path / "config.yaml", path / "provenance.json"
        self._is_new = not any((path / name).exists() for name in WORK)
        if self._is_new or self.options.plan:  # where values are tried, none is the run's yet
            return
        found = []
        if self._config_path.exists():
            found += _other_values(self._config_path, config, RunConfig.of_this_start | set(ignore))
        if self._provenance_path.exists():
            found += self._other_data(self._data)
        if found and not self.options.force:
            raise CheckpointError(
                f"{path} holds a run {' and '.join(found)}; give another output folder, delete this one to start anew, "
                "or add --force to go on with the new ones"
            )
        if found:
            log.warning("%s holds a run %s: going on, as force says", path, " and ".join(found))
            self._is_new = True

    def begin(self) -> None:
        """Makes the folder where there is none, and writes down what the run is: configuration and provenance.

        Locking and logging do it; who puts other work there first, does it before. A plan leaves no trace.
        """
        if self.options.plan:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        if self._is_new or not self._config_path.exists():
            write_atomically(self._config_path, to_yaml(_without_this_start(self._config)).encode())
        if self._is_new or not self._provenance_path.exists():
            record = provenance(self._data) | {"seed": getattr(self._config, "seed", None)}
            write_atomically(self._provenance_path, json.dumps(record, indent=2).encode())
        self._is_new = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Begins, and keeps other processes from training here: two would write over each other's checkpoints.

        Raises:
            CheckpointError: Another process is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # A singleton, since nested fits of one process may share a folder. The system frees it when the process dies.
        lock = FileLock(self.path / ".lock", timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise CheckpointError(
                f"{self.path}: another process is training in this folder; wait for it, or give another output folder"
            ) from None
        try:
            self.begin()
            yield
        finally:
            lock.release()

    @property
    def provenance(self) -> dict[str, Any]:
        """What `provenance.json` says."""
        record: dict[str, Any] = json.loads((self.path / "provenance.json").read_text(encoding="utf-8"))
        return record

    def _other_data(self, data: dict[str, str]) -> list[str]:
        known = self.provenance
        if known["num_threads"] != torch.get_num_threads():
            log.warning(
                "%s was begun with %d threads, now there are %d: metrics will differ in the last digits",
                self.path,
                known["num_threads"],
                torch.get_num_threads(),
            )
        changed = sorted(
            name for name in known["data"].keys() | data.keys() if known["data"].get(name) != data.get(name)
        )
        return [f"made with other data ({', '.join(changed)} changed)"] if changed else []

    def log_metrics(self, step: int, values: dict[str, float]) -> None:
        """Appends one row to metrics.jsonl."""
        self._append(self.metrics_path, {"step": step} | values)

    def log_alarm(self, step: int, kind: str, message: str) -> None:
        """Appends one row to alarms.jsonl."""
        self._append(self.alarms_path, {"step": step, "kind": kind, "message": message})

    def log_timing(self, stage: str, seconds: float, **values: float) -> None:
        """Appends one row to timings.jsonl."""
        self._append(self.timings_path, {"stage": stage, "seconds": round(seconds, 3)} | values)

    def truncate_logs(self, num_steps: int) -> None:
        """Takes rows after `num_steps` steps out of metrics.jsonl and alarms.jsonl: the run goes on from there."""
        for path in (self.metrics_path, self.alarms_path):
            if path.exists():
                self._truncate(path, num_steps)

    def _truncate(self, path: Path, num_steps: int) -> None:
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when the run was killed
                break
            if row["step"] > num_steps:
                break
            rows.append(line + "\n")
        write_atomically(path, "".join(rows).encode())

    def _append(self, path: Path, row: dict[str, Any]) -> None:
        self.begin()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _without_this_start(config: Section) -> Section:
    """`config` with the defaults of what belongs to one start of a run, for one who reads or reuses it."""
    if not isinstance(config, RunConfig):
        return config
    fields = RunConfig.of_this_start - {"output"}
    return config.model_copy(update={name: RunConfig.model_fields[name].default for name in fields})


def _other_values(config_path: Path, config: Section, ignore: frozenset[str]) -> list[str]:
    stored = _flat({k: v for k, v in read_yaml(config_path).items() if k not in ignore})
    given = _flat(config.model_dump(mode="json", exclude=set(ignore)))
    different = [
        key
        for key in given.keys() | stored.keys()
        if given.get(key) != stored.get(key) and key.rpartition(".")[2] not in OF_THE_MACHINE
    ]
    if not different:
        return []
    changes = ", ".join(f"{key}: {stored.get(key)!r}, now {given.get(key)!r}" for key in sorted(different)[:3])
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return [f"with other values ({changes}{more})"]


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
