"""Rooms import from lower floors only, files stay short, and what is imported is declared."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "toolkit").rglob("*.py"))
# The files of floor 0 are one room; above, a room is a folder or a file, and a floor's rooms are strangers.
FLOORS = [
    ["errors", "registry", "console", "assets", "files", "private", "cores"],
    ["config"],
    ["cards", "training", "reports", "splits", "statistics", "near_duplicates", "balance"],
    ["scans", "text"],
    ["encoders"],
    ["objectives"],
    ["embeddings"],
    ["finetune"],
    ["sweeps"],
    ["cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAX_LINES = 500
# Installed without what it declares, which brings torchvision; the network that needs it says how.
INSTALLED_ALONE = {"dynamic_network_architectures"}


def imports(source: str, package: str) -> Iterator[str]:
    """Dotted names of all that `source`, a module in `package`, imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def too_high(source: str, room: str) -> list[str]:
    """The imports of `source`, a module directly in `room`, that its floor does not allow."""
    found = []
    for name in imports(source, f"toolkit.{room}"):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top in ("recipes", "benchmarks", "tests"):
            found.append(name)
        elif top == "toolkit" and other in FLOOR and other != room:
            same_room = FLOOR[room] == FLOOR[other] == 0
            if not same_room and FLOOR[other] >= FLOOR[room]:
                found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_lower_floors(path: Path) -> None:
    room = path.relative_to(ROOT / "toolkit").parts[0].removesuffix(".py")
    if room == "__init__":
        return  # re-exports, lazily
    assert room in FLOOR, f"toolkit/{room} has no floor: give it one in FLOORS"
    assert not too_high(path.read_text(encoding="utf-8"), room)


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("from toolkit.encoders import load_encoder", "scans"),
        ("def late():\n    import toolkit.text.corpus", "scans"),
        ("from toolkit import finetune", "encoders"),
        ("from ..cli import app", "training"),
        ("import recipes.domain", "cli"),
    ],
)
def test_an_import_from_above_is_seen(source: str, room: str) -> None:
    assert too_high(source, room)


def test_files_are_short_and_named_for_what_they_hold() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
    assert {path.stem for path in FILES} & {"utils", "helpers", "common", "misc"} == set()


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["external"], *extras["text"]]
    declared = {Requirement(line).name.casefold() for line in lines}
    owners = packages_distributions()
    undeclared = {}
    for path in FILES:
        for name in imports(path.read_text(encoding="utf-8"), "toolkit"):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "toolkit" or top in INSTALLED_ALONE:
                continue
            if declared.isdisjoint(owner.casefold() for owner in owners.get(top, [top])):
                undeclared[top] = str(path.relative_to(ROOT))
    assert undeclared == {}


def test_no_torchvision() -> None:
    """PyPI's is a CUDA build, and beside a CPU torch it breaks transformers."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "torchvision" not in pinned
    assert "torch==" in pinned
