import pickle
import sys
from pathlib import Path

import pytest

from toolkit import assets
from toolkit.assets import find_asset, list_assets, load_recipe, summary
from toolkit.errors import ConfigError

RECIPE = '''"""Counts to a number.

python recipes/count.py --config configs/count/three.yaml
"""

from toolkit.config import Section


class Config(Section):
    to: int = 3
    """Where to stop."""


def run(cfg: Config) -> int:
    return cfg.to
'''


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A working folder and an installed package, each with assets of its own."""
    here, package = tmp_path / "here", tmp_path / "site-packages" / "toolkit"
    for folder in (here, package):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(assets, "_PACKAGE", package)
    shipped = package / "_assets"
    write(shipped / "recipes/count.py", RECIPE)
    write(
        shipped / "configs/count/three.yaml",
        "# fewlabel run count --config configs/count/three.yaml\n# Ends at once\nto: 3\n",
    )
    write(shipped / "data_cards/poems.md", "---\npretty_name: Two hundred poems\n---\nProse.\n")
    return {"here": here, "shipped": shipped}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["count/three", "count/three.yaml", "configs/count/three.yaml"])
def test_an_installed_asset_is_found_by_any_of_its_names(places: dict[str, Path], name: str) -> None:
    found = find_asset("configs", name)
    assert (found.name, found.origin) == ("count/three", "installed package")
    assert found.path == places["shipped"] / "configs/count/three.yaml"
    assert found.place == Path("configs/count/three.yaml")


def test_the_working_folder_comes_first(places: dict[str, Path]) -> None:
    write(places["here"] / "recipes/count.py", RECIPE.replace("= 3", "= 4"))
    assert find_asset("recipes", "count").origin == "working folder"
    assert [(asset.name, asset.origin) for asset in list_assets("recipes")] == [("count", "working folder")]
    assert load_recipe("count").Config().to == 4


def test_an_editable_install_finds_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "clone/toolkit")
    write(tmp_path / "clone/recipes/count.py", RECIPE)
    assert list_assets("recipes") == []  # any folder beside a package is not a repository of ours
    write(tmp_path / "clone/pyproject.toml", "")
    assert find_asset("recipes", "count").origin == "repository"


def test_an_unknown_name_gets_the_nearest(places: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'count/three'"):
        find_asset("configs", "count/tree")


def test_a_recipe_is_loaded_once_and_pickles(places: dict[str, Path]) -> None:
    module = load_recipe("count")
    assert load_recipe("recipes/count.py") is module
    assert pickle.loads(pickle.dumps(module.Config(to=7))).to == 7


def test_a_recipe_that_fails_leaves_no_half_module(places: dict[str, Path]) -> None:
    write(places["here"] / "recipes/broken.py", "half = 1\nraise RuntimeError('no')\n")
    with pytest.raises(RuntimeError):
        load_recipe("broken")
    assert "toolkit_recipes.broken" not in sys.modules


def test_summaries_are_read_without_running_anything(places: dict[str, Path]) -> None:
    write(places["here"] / "recipes/bomb.py", '"""Would go off."""\nraise SystemExit\n')
    assert [summary(asset) for asset in list_assets("recipes")] == ["Would go off.", "Counts to a number."]
    assert summary(find_asset("configs", "count/three")) == "Ends at once"
    write(
        places["shipped"] / "configs/count/four.yaml",
        "# fewlabel run count --config count/four\n# One, two,\n# three of a.b? Four.\nto: 4\n# Not this one.\n",
    )
    assert summary(find_asset("configs", "count/four")) == "One, two, three of a.b?"  # a sentence, however many lines
    assert summary(find_asset("data_cards", "poems")) == "Two hundred poems"
