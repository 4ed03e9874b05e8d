"""What every benchmark ends with: its ratios, and what they were measured on. Imports nothing large."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "accelerate", "transformers", "tokenizers", "sentencepiece", "monai", "numpy", "numba")


def finish(name: str, ratios: Mapping[str, float], values: Mapping[str, Any], **hardware: Any) -> None:
    """Prints ratios and values for people, then the line of JSON that is the result.

    Args:
        name: Of the benchmark.
        ratios: Advantages, above 1 where fewlabel is better.
        values: What the ratios were made of, with the unit in each key.
        **hardware: What the benchmark knows of the machine besides its CPU, such as its threads or its GPU.
    """
    for key, value in {**values, **ratios}.items():
        print(f"{key:40s} {_rounded(value)}")
    result = {
        "name": name,
        "ratios": _rounded(dict(ratios)),
        "hardware": {"cpu": _cpu(), "cpus": _num_cpus()} | hardware,
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES},
        "values": _rounded(dict(values)),
    }
    print(json.dumps(result), flush=True)


def interleaved(sides: Mapping[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """Runs each side once a round, every other round in reverse order, and says how it goes.

    Args:
        sides: By name, each gives its measurement.
        num_rounds: How often.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(num_rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            found[name].append(sides[name]())
        print(f"round {number + 1} of {num_rounds}: {_rounded({name: row[-1] for name, row in found.items()})}")
        sys.stdout.flush()
    return found


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round: what slows the machine for a while slows both sides."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def refuse_without(missing: ModuleNotFoundError) -> None:
    """Ends the program and says how to get the module."""
    sys.exit(f"benchmarks: the module {missing.name} is missing; run `pip install -e .` in the repository's root")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
