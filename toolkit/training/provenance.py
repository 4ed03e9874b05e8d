"""What a result was made with: code, packages, data, machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
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


def provenance(cards: dict[str, str]) -> dict[str, Any]:
    """A record for `provenance.json`; it names no person, folder or host.

    Args:
        cards: Digest of each data card that was used.
    """
    return {
        "fewlabel": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cards": cards,
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "num_threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
