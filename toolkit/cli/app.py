"""What all commands share: the application, its options, and how a mistake ends."""

import os
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from toolkit import __version__
from toolkit.config import friendly_errors
from toolkit.console import setup_logging

FIND, RUN, DATA = "What there is", "Running", "Data"
"""Panels of the help text, in the order in which somebody new needs them."""


class _Group(TyperGroup):
    """Runs a command so that a user's mistake ends in one line and an exit code, not in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with friendly_errors():
            setup_logging()
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [bold]fewlabel ls[/], or on your own data with [bold]fewlabel init FOLDER[/].",
)

out = Console(soft_wrap=True, highlight=False)
"""Results go to the standard output, unwrapped, so that they can be piped; progress and errors do not."""


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="fewlabel")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, as FEWLABEL_DEBUG=1 does.")] = False,
) -> None:
    """From unlabelled scans and texts to a classifier that needs few labels, with the evidence of how few."""
    if debug:
        os.environ["FEWLABEL_DEBUG"] = "1"
    if version:
        out.print(f"fewlabel {__version__}")
        raise typer.Exit
