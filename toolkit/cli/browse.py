"""`fewlabel ls`, `cp` and `objectives`: what there is, and how to make it yours."""

import ast
import inspect
import shutil
from importlib.metadata import entry_points
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from toolkit import assets
from toolkit.assets import Asset, find_asset, list_assets
from toolkit.cli.app import FIND, app, out
from toolkit.config import field_lines, read_yaml
from toolkit.errors import ConfigError, FewlabelError
from toolkit.registry import nearest

REGISTERED = {"objective": "objectives", "network": "encoders/networks"}
"""What plug-ins may add to, and where ours lie."""
Row = tuple[str, str, str, str]
"""Kind, name, what it is, and where from."""


@app.command("ls", rich_help_panel=FIND)
def list_all(
    words: Annotated[list[str] | None, typer.Argument(metavar="WORD", help="Show lines with all of these.")] = None,
) -> None:
    """List recipes, configurations, objectives, networks, and cards of data and of public models.

    [bold]Examples[/]

    $ fewlabel ls

    $ fewlabel ls card chinese
    """
    rows = _all_rows()
    wanted = [word.casefold() for word in words or []]
    rows = [row for row in rows if all(word in " ".join(row).casefold() for word in wanted)]
    if not rows:
        raise FewlabelError(f"nothing matches {' '.join(words or [])!r}; `fewlabel ls` shows everything")
    _show(rows)


def _all_rows() -> list[Row]:
    rows = [
        (assets.SINGULAR[kind], asset.name, assets.summary(asset), asset.origin)
        for kind in assets.KINDS
        for asset in list_assets(kind)
    ]
    for kind, folder in REGISTERED.items():
        found = _registered(folder, f"fewlabel.{kind}s")
        rows += [(kind, name, meaning, origin) for name, (meaning, origin) in found.items()]
    return rows


def _show(rows: list[Row]) -> None:
    if out.is_terminal:  # nothing is cut: what is longer than a line goes on below itself
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        kinds = list(dict.fromkeys(row[0] for row in rows))
        rows = sorted(rows, key=lambda row: (kinds.index(row[0]), row[3]))
        for (kind, origin), group in groupby(rows, key=itemgetter(0, 3)):
            table.add_row(f"[bold]{kind}[/]", f"[dim]{origin}[/]")
            for _, name, meaning, _ in group:
                table.add_row(f"  {name}", escape(meaning))
        out.print(table, soft_wrap=False)
        return
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for kind, name, meaning, origin in rows:
        out.print(f"{kind:<{widths[0]}}  {name:<{widths[1]}}  {meaning:<{widths[2]}}  {origin}", markup=False)


def _registered(folder: str, group: str) -> dict[str, tuple[str, str]]:
    """Name to (summary, origin) of each class in `folder`, read from the source: an import would load torch."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((Path(__file__).parent.parent / folder).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.ClassDef(decorator_list=[ast.Call(func=ast.Name("register"), args=[ast.Constant(str(name))])]):
                    found[name] = (assets.first_line(ast.get_docstring(node)), "fewlabel")
    for entry in entry_points(group=group):
        found.setdefault(entry.name, ("", entry.dist.name if entry.dist else entry.value))
    return found


@app.command(rich_help_panel=FIND)
def cp(
    name: Annotated[str, typer.Argument(help="A recipe, configuration or card, as `fewlabel ls` names it.")],
    dest: Annotated[Path | None, typer.Argument(help="File or folder. Default: where `run` finds it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Copy a recipe, configuration or card into the working folder, to make it yours.

    [bold]Examples[/]

    $ fewlabel cp domain

    $ fewlabel cp domain/demo my.yaml
    """
    source = _any_asset(name)
    target = dest or source.place
    if target.is_dir():
        target = target / source.path.name
    copies = [(source.path, target)]
    if source.kind == "configs" and (base := read_yaml(source.path).get("extends")):
        copies.append((source.path.parent / base, target.parent / base))
    for old, new in copies:
        if new.exists() and not force and (new == target or new.read_bytes() != old.read_bytes()):
            raise FewlabelError(f"{new} is there already; --force overwrites it, or name another DEST")
    for old, new in copies:
        if new.exists() and new.samefile(old):
            continue
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
        out.print(f"{new}  (from the {source.origin})")


def _any_asset(name: str) -> Asset:
    found: list[Asset] = []
    for kind in assets.KINDS:
        try:
            found.append(find_asset(kind, name))
        except ConfigError:
            continue
    # The path of a file fits every kind; its suffix tells.
    found = [asset for asset in found if asset.path.suffix == assets.SUFFIXES[asset.kind]]
    if len({asset.path for asset in found}) == 1:  # cards of data and of models are both .md: the folder tells, if any
        found = [asset for asset in found if asset.kind in asset.path.parts][:1] or found[:1]
    if not found:
        known = [asset.name for kind in assets.KINDS for asset in list_assets(kind)]
        raise FewlabelError(f"no recipe, configuration or card {name!r}; {nearest(name, known)}")
    if len(found) > 1:
        places = " or ".join(str(asset.place) for asset in found)
        raise FewlabelError(f"{name!r} is several things; say which: {places}")
    return found[0]


@app.command(rich_help_panel=FIND)
def objectives(
    name: Annotated[str | None, typer.Argument(help="One objective, to read all about it.")] = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="Check the losses against the papers' formulas, and print a table.")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="When to use which and what it costs, as a Markdown table.")
    ] = False,
) -> None:
    """List the training objectives, or explain one: what it does, its paper, its settings.

    [bold]Examples[/]

    $ fewlabel objectives

    $ fewlabel objectives simclr

    $ fewlabel objectives --table

    $ fewlabel objectives --certificate
    """
    if table:
        from toolkit.objectives.guide import guide

        out.print(guide(), markup=False)
        return
    if certificate:
        _print_certificates(name)
        return
    if name is None:
        _show([row for row in _all_rows() if row[0] == "objective"])
        return
    from toolkit.objectives import OBJECTIVES

    cls = OBJECTIVES.get(name)
    out.print(inspect.getdoc(cls) or "", markup=False)
    out.print("\nSettings:\n" + "\n".join(field_lines(cls.Config)), markup=False)


def _print_certificates(name: str | None) -> None:
    from toolkit.objectives import OBJECTIVES
    from toolkit.objectives.certify import certify, table

    methods = [OBJECTIVES.get(one) for one in ([name] if name else OBJECTIVES)]
    claims = {claim.name: claim for method in methods for claim in method.claims}  # methods may share a loss
    if not claims:
        raise FewlabelError(f"{name}: its loss has no certificate; `fewlabel objectives --certificate` has all")
    certificates = certify(list(claims.values()))
    out.print(table(certificates), markup=False)
    if failed := [str(one) for one in certificates if one.failed]:
        raise FewlabelError(f"{len(failed)} of {len(certificates)} certificates do not hold: {' | '.join(failed)}")
