"""`fewlabel run`, `validate` and `schema`: recipes and their configurations."""

import json
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from toolkit.assets import Asset, find_asset, list_assets, load_recipe
from toolkit.cli.app import RUN, app, out
from toolkit.config import Section, flags, json_schema, load, read_yaml, to_yaml
from toolkit.console import log
from toolkit.errors import ConfigError, FewlabelError


@app.command(rich_help_panel=RUN)
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of one.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="In place of the file's.")] = None,
    config: Annotated[str | None, typer.Option("--config", "-c", metavar="FILE", help="A YAML file or a name.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Time a few steps, say what the training takes, stop.")] = False,
    profile: Annotated[int, typer.Option("--profile", metavar="N", help="Write a trace of N steps.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with a run of other values or another version.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration only.")] = False,
) -> None:
    """Run a recipe. The same command, given again, continues what was cut off and reuses what is done.

    The recipe is looked for in the working folder first, then in the installed package.

    [bold]Examples[/]

    $ fewlabel run domain --config configs/domain/demo.yaml

    $ fewlabel run domain --config domain/demo output=runs/seed1 seed=1 --dry-run
    """
    source = find_asset("recipes", recipe)
    module = load_recipe(recipe)
    if config is None:
        _ask_for_one(source)
    file = find_asset("configs", config).path if config else None
    resolved = load(file, config_class(module), [*(overrides or ()), *flags(plan, profile, force)])
    if dry_run:
        out.print(to_yaml(resolved), markup=False, end="")
        return
    log.info("recipe %s: %s (%s)", source.name, source.path, source.origin)
    module.run(resolved)


def _ask_for_one(recipe: Asset) -> None:
    """Defaults will do for a recipe that ships without configurations; otherwise one has to be named."""
    known = [asset.name for asset in list_assets("configs") if asset.name.startswith(recipe.name + "/")]
    if known:
        choices = " or ".join(f"--config {name}" for name in known)
        raise ConfigError(f"{recipe.name}: say which configuration: {choices}")


def config_class(module: ModuleType) -> type[Section]:
    """The configuration of a recipe: the type of the first parameter of its `run`."""
    hints = typing.get_type_hints(module.run) if hasattr(module, "run") else {}
    schema = next((hint for name, hint in hints.items() if name != "return"), None)
    if not (isinstance(schema, type) and issubclass(schema, Section)):
        raise ConfigError(f"{module.__file__}: a recipe defines run(cfg: Config), Config a toolkit.config.Section")
    return schema


@app.command(rich_help_panel=RUN)
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Configurations (YAML), data cards (Markdown).")],
    recipe: Annotated[str | None, typer.Option("--recipe", help="The recipe, where a file does not say it.")] = None,
) -> None:
    """Check configurations and cards, and report every mistake at once. Runs nothing.

    A configuration's recipe is the one of its launch line (`# fewlabel run RECIPE ...`) or of its folder
    (`configs/RECIPE/`).

    [bold]Examples[/]

    $ fewlabel validate configs/*/*.yaml data_cards/*.md
    """
    mistakes: list[str] = []
    for file in files:
        try:
            if file.suffix == ".md":
                from toolkit.cards import load_card

                load_card(file)
                meaning = "data card"
            else:
                name = recipe or recipe_of(file)
                load(file, config_class(load_recipe(name)))
                meaning = f"recipe {name}"
        except FewlabelError as error:
            mistakes += str(error).splitlines()
        else:
            out.print(f"ok  {file}  ({meaning})")
    if mistakes:
        raise ConfigError(*mistakes)


def recipe_of(config: Path) -> str:
    """The recipe that a configuration is for, by its launch line or its folder.

    Raises:
        ConfigError: Neither says it, or there is no such file.
    """
    if not config.is_file():
        read_yaml(config)  # raises, and says what there is
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") and (launch := re.search(r"fewlabel run (\S+)|recipes/(\w+)\.py", line)):
            return launch.group(1) or launch.group(2)
    folder = config.resolve().parent
    if folder.parent.name == "configs":
        return folder.name
    raise ConfigError(f"{config}: which recipe is it for? Open it with `# fewlabel run RECIPE ...`, or give --recipe")


@app.command(rich_help_panel=RUN)
def schema(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of one.")],
) -> None:
    """Print the JSON Schema of a recipe's configuration, for completion and checks in an editor.

    [bold]Examples[/]

    $ fewlabel schema domain > domain.schema.json

    Then open the YAML file with the line `# yaml-language-server: $schema=domain.schema.json`.
    """
    out.print(json.dumps(json_schema(config_class(load_recipe(recipe))), indent=2), markup=False)
