"""The folder of one run: its configuration, metrics, timings, provenance and checkpoints.

Everything that makes two runs equal goes to `metrics.jsonl`; every clock goes to `timings.jsonl`.
"""

import io
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from toolkit.config import Section, read_yaml, to_yaml
from toolkit.console import log
from toolkit.errors import CheckpointError
from toolkit.training.provenance import provenance


class RunFolder:
    """A run's folder, made or reopened.

    Args:
        path: The folder.
        config: The run's resolved configuration. A folder that holds another one is refused.
        ignore: Top-level keys of the configuration that may differ, such as the folder's own name.
        data: Digest of each data card or manifest that is used. A folder that was made with others is refused: its
            checkpoint may have seen what is test data now.

    Raises:
        CheckpointError: The folder was made with other values or data; the message names them.
    """

    def __init__(
        self, path: Path, config: Section, ignore: Iterable[str] = ("output",), data: dict[str, str] | None = None
    ) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.timings_path = path / "timings.jsonl"
        path.mkdir(parents=True, exist_ok=True)
        config_path = path / "config.yaml"
        if config_path.exists():
            _refuse_other(config_path, config, set(ignore))
        else:
            write_atomically(config_path, to_yaml(config).encode())
        provenance_path = path / "provenance.json"
        if provenance_path.exists():
            self._refuse_other_data(data or {})
        else:
            record = provenance(data or {}) | {"seed": getattr(config, "seed", None)}
            write_atomically(provenance_path, json.dumps(record, indent=2).encode())

    @property
    def provenance(self) -> dict[str, Any]:
        """What `provenance.json` says."""
        record: dict[str, Any] = json.loads((self.path / "provenance.json").read_text(encoding="utf-8"))
        return record

    def _refuse_other_data(self, data: dict[str, str]) -> None:
        known = self.provenance
        changed = sorted(
            name for name in known["data"].keys() | data.keys() if known["data"].get(name) != data.get(name)
        )
        if changed:
            raise CheckpointError(
                f"{self.path} was made with other data ({', '.join(changed)} changed); "
                "give another output folder, or delete this one to start anew"
            )
        if known["num_threads"] != torch.get_num_threads():
            log.warning(
                "%s was begun with %d threads, now there are %d: metrics will differ in the last digits",
                self.path,
                known["num_threads"],
                torch.get_num_threads(),
            )

    def log_metrics(self, step: int, values: dict[str, float]) -> None:
        """Appends one row to metrics.jsonl."""
        _append(self.metrics_path, {"step": step} | values)

    def log_timing(self, stage: str, seconds: float, **values: float) -> None:
        """Appends one row to timings.jsonl."""
        _append(self.timings_path, {"stage": stage, "seconds": round(seconds, 3)} | values)

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Writes the state after `step` steps; the one before it goes once this one is safely on the disk."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        checkpoints = self.path / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        target = checkpoints / f"step-{step:08d}.pt"
        write_atomically(target, buffer.getvalue())
        for other in checkpoints.iterdir():
            if other != target:
                other.unlink()

    def load_checkpoint(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint as (steps done, state), with metrics.jsonl cut back to it; None if there is none."""
        found = sorted((self.path / "checkpoints").glob("step-*.pt"))
        if not found:
            self._truncate_metrics(0)
            return None
        step = int(found[-1].stem.removeprefix("step-"))
        self._truncate_metrics(step)
        return step, torch.load(found[-1], map_location="cpu", weights_only=True)

    def _truncate_metrics(self, num_steps: int) -> None:
        if not self.metrics_path.exists():
            return
        rows = []
        for line in self.metrics_path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when the run was killed
                break
            if row["step"] > num_steps:
                break
            rows.append(line + "\n")
        write_atomically(self.metrics_path, "".join(rows).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` so that `path` holds either all of it or what it held before, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(temporary: Path, target: Path) -> None:
    """Puts the finished folder `temporary` in the place of `target`."""
    if target.exists():
        shutil.rmtree(target)
    temporary.replace(target)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _refuse_other(config_path: Path, config: Section, ignore: set[str]) -> None:
    stored = _flat({k: v for k, v in read_yaml(config_path).items() if k not in ignore})
    given = _flat(config.model_dump(mode="json", exclude=ignore))
    different = [key for key in given.keys() | stored.keys() if given.get(key) != stored.get(key)]
    if different:
        changes = ", ".join(f"{key}: {stored.get(key)!r}, now {given.get(key)!r}" for key in sorted(different)[:3])
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise CheckpointError(
            f"{config_path.parent} holds a run with other values ({changes}{more}); "
            "give another output folder, or delete this one to start anew"
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
