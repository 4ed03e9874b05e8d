"""What a result was made with: code, packages, data, machine."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from toolkit import __version__

PACKAGES = (
    "torch",
    "monai",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "accelerate",
    "scikit-learn",
    "numpy",
    "scipy",
    "numba",
    "nibabel",
)


def provenance(data: dict[str, str]) -> dict[str, Any]:
    """A record for `provenance.json`; it names no person, folder or host.

    Args:
        data: Digest of each data card or manifest that was used.
    """
    return {
        "fewlabel": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "data": data,
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "num_threads": torch.get_num_threads(),
    }


def code_version() -> dict[str, str]:
    """Version and, in a checkout, commit: what must be the same for a run to go on as it began."""
    return {"fewlabel": __version__} | ({"commit": commit.removesuffix("-dirty")} if (commit := _commit()) else {})


@cache
def _commit() -> str | None:
    """The commit of a checkout that fewlabel runs from, with a mark if files differ from it."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps inside a user's own repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
