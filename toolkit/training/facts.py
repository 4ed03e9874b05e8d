"""What a training took and what its monitors found, read from its run folder."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from toolkit.training.alarms import TROUBLES

COLLAPSES = {trouble.kind for trouble in TROUBLES.values() if trouble.is_collapse}


def training_facts(folder: Path, failure: str | None = None) -> dict[str, Any]:
    """Time, memory and trouble of one training.

    Args:
        folder: The run's.
        failure: Why it came to no end, if it did not.

    Returns:
        `seconds`: its steps at their median time, so that a pause or a second start counts for nothing; NaN of fewer
        than two logged steps. `memory_gb`: the most that its process had, NaN where the run did not end. `note`: the
        failure, or each kind of collapse with the step at which its alarm was first given, or nothing.
    """
    rows = list(_rows(folder / "timings.jsonl"))
    logged = [row for row in rows if "step" in row]
    steps = [
        (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
        for before, after in pairwise(logged)
        if after["step"] > before["step"] and after["seconds"] > before["seconds"]  # not across two starts
    ]
    peaks = [row["peak_memory_gb"] for row in rows if "peak_memory_gb" in row]
    first: dict[str, int] = {}
    for row in _rows(folder / "alarms.jsonl"):
        if row["kind"] in COLLAPSES:
            first.setdefault(row["kind"], row["step"])
    return {
        "seconds": median(steps) * logged[-1]["step"] if steps else float("nan"),
        "memory_gb": max(peaks, default=float("nan")),
        "note": failure or "; ".join(f"{kind.replace('_', ' ')} from step {step}" for kind, step in first.items()),
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of JSON; one that a kill cut off is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
