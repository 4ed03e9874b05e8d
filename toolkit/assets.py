"""Recipes, configurations and cards of data and models: where they lie, and a recipe as a module.

Three places, in this order: the working folder, the installed package, the repository of an editable install.
So a copy that somebody made with `fewlabel cp` and changed is always the one that is used.
"""

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from toolkit.console import setup_logging
from toolkit.errors import ConfigError
from toolkit.registry import nearest

Kind = Literal["recipes", "configs", "data_cards", "model_cards"]
"""A kind of asset is named by its folder."""
KINDS: tuple[Kind, ...] = get_args(Kind)
SINGULAR: dict[Kind, str] = {
    "recipes": "recipe", "configs": "configuration", "data_cards": "card", "model_cards": "public model"
}  # fmt: skip
SUFFIXES: dict[Kind, str] = {"recipes": ".py", "configs": ".yaml", "data_cards": ".md", "model_cards": ".md"}

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Asset:
    """One recipe, configuration or card.

    Attributes:
        kind: What it is.
        name: Path below its folder without the suffix: `domain`, `domain/demo`.
        path: The file.
        origin: "as given" for a path, otherwise "working folder", "installed package" or "repository".
    """

    kind: Kind
    name: str
    path: Path
    origin: str

    @property
    def place(self) -> Path:
        """Where a copy belongs, relative to the working folder."""
        return Path(self.kind) / (self.name + SUFFIXES[self.kind])


def find_asset(kind: Kind, name: str) -> Asset:
    """The asset `name`: first a file of that path, then a name in each of the places.

    Args:
        kind: What is looked for.
        name: A path, or a name with or without its folder and suffix (`domain`, `recipes/domain.py`).

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    wanted = Path(name)
    if wanted.suffix and wanted.is_file():
        return Asset(kind, _short_name(kind, name), wanted, "as given")
    short = _short_name(kind, name)
    for origin, root in _places():
        path = root / kind / (short + SUFFIXES[kind])
        if path.is_file():
            return Asset(kind, short, path, origin)
    remedy = nearest(short, [asset.name for asset in list_assets(kind)])
    raise ConfigError(f"no {SINGULAR[kind]} {name!r} here or among those of fewlabel; {remedy}")


def list_assets(kind: Kind) -> list[Asset]:
    """All assets of a kind by name; of two with one name the first place wins, as in `find_asset`."""
    found: dict[str, Asset] = {}
    for origin, root in _places():
        folder = root / kind
        for path in folder.rglob(f"*{SUFFIXES[kind]}"):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith(("_", ".")):
                found.setdefault(name, Asset(kind, name, path, origin))
    return [found[name] for name in sorted(found)]


def load_recipe(name: str) -> ModuleType:
    """A recipe as the module `toolkit_recipes.NAME`, loaded once from the file that `find_asset` takes."""
    asset = find_asset("recipes", name)
    module_name = f"toolkit_recipes.{asset.name.replace('/', '.')}"
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(asset.path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(module_name, asset.path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: pydantic and pickle look classes up by their module's name; pickle imports its parent.
    sys.modules.setdefault("toolkit_recipes", ModuleType("toolkit_recipes"))
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def run_recipe(name: str, values: dict[str, Any]) -> None:
    """Runs a recipe in a process of its own, which could unpickle this function but none of a recipe's.

    Args:
        name: As `load_recipe` takes it.
        values: Of its configuration, as plain data.
    """
    setup_logging()
    recipe = load_recipe(name)
    recipe.run(recipe.Config.model_validate(values))


def summary(asset: Asset) -> str:
    """One sentence that says what an asset is for, read without running it."""
    text = asset.path.read_text(encoding="utf-8")
    if asset.kind == "recipes":
        return first_line(ast.get_docstring(ast.parse(text)))
    if asset.kind == "configs":
        head = re.match(r"(#.*\n)*", text)[0]  # type: ignore[index]
        comments = [line.lstrip("# ") for line in head.splitlines()]
        said = " ".join(line for line in comments if not line.startswith(("fewlabel ", "python ")))
        return re.split(r"(?<=[.?!]) ", said.strip(), maxsplit=1)[0]
    title = re.search(r"^pretty_name: *[\"']?(.*?)[\"']? *$", text, re.MULTILINE)
    return title.group(1) if title else ""


def first_line(docstring: str | None) -> str:
    """The summary line of a docstring."""
    return (docstring or "").strip().partition("\n")[0]


def _places() -> list[tuple[str, Path]]:
    places = [("working folder", Path()), ("installed package", _PACKAGE / "_assets")]
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        places.append(("repository", _PACKAGE.parent))
    return places


def _short_name(kind: Kind, name: str) -> str:
    path = Path(name)
    parts = path.with_suffix("").parts if path.suffix == SUFFIXES[kind] else path.parts
    if kind in parts:  # recipes/domain.py and /anywhere/recipes/domain.py are both `domain`
        parts = parts[len(parts) - parts[::-1].index(kind) :]
    elif path.is_absolute():
        parts = parts[-1:]
    return "/".join(parts)
