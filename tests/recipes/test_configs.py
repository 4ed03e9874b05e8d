"""Every configuration is valid, says how to launch it, and names cards that exist; every recipe says what it is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.assets import find_asset, load_recipe
from toolkit.cards import load_card
from toolkit.config import Section, load

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RECIPES = sorted((ROOT / "recipes").glob("*.py"))

of_configs = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
of_recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def resolved(path: Path) -> Section:
    """The configuration as its recipe gets it; the recipe is the folder's name."""
    config: Section = load(path, load_recipe(path.parent.name).Config)
    return config


def cards_in(values: Any) -> Iterator[str]:
    """All that stands under a key `cards`, however deep."""
    if isinstance(values, dict):
        for key, below in values.items():
            yield from below if key == "cards" else cards_in(below)


def test_there_is_one_at_least_for_each_recipe() -> None:
    assert {path.parent.name for path in CONFIGS} == {path.stem for path in RECIPES}


@of_configs
def test_it_is_valid_for_the_recipe_of_its_folder(path: Path) -> None:
    assert resolved(path).output.parts[0] == "runs"


@of_configs
def test_it_opens_with_its_launch_line(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith(f"# fewlabel run {path.parent.name} --config {place}")
    assert second.startswith("# ") and len(second) > 20  # what it is for


@of_configs
def test_its_data_cards_exist(path: Path) -> None:
    config = resolved(path)
    cards = list(cards_in(config.model_dump()))
    assert cards or getattr(config, "manifest", None)
    for card in cards:
        load_card(card)


@of_recipes
def test_a_recipe_says_what_it_is_and_how_to_launch_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    assert docstring.splitlines()[0].endswith((".", "?"))
    launch = next(line.split() for line in docstring.splitlines() if "fewlabel run" in line)
    assert launch[:4] == ["fewlabel", "run", path.stem, "--config"]
    assert find_asset("configs", launch[4]).path.is_file()


@of_recipes
def test_help_lists_every_key(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(path.stem)
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as end:
        recipe.main(recipe.run, recipe.Config)
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert recipe.__doc__.splitlines()[0] in shown
    for key in recipe.Config.model_fields:
        assert f"\n  {key}" in shown


def test_a_recipe_is_a_program(tmp_path: Path) -> None:
    """From any folder, as a file."""
    ran = subprocess.run(
        [sys.executable, ROOT / "recipes/scan_pretrain.py", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert "Pretrain a 3D encoder" in ran.stdout and "key=value" in ran.stdout
