"""The group that the commands of this folder join."""

import typer

from toolkit.cli.app import DATA, app

data = typer.Typer(no_args_is_help=True, help="Fetch what a card describes; audit, split and store your own scans.")
app.add_typer(data, name="data", rich_help_panel=DATA)
