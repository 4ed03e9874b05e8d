"""`fewlabel data translate`: pseudonyms back into the hospital's own numbers, on site."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data


@data.command()
def translate(
    file: Annotated[Path, typer.Argument(help="A worklist or predictions: CSV or Parquet.")],
    crosswalk: Annotated[Path, typer.Option(metavar="CSV", help="crosswalk.csv of the audit.")],
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: FILE.identified.csv beside the crosswalk.")
    ] = None,
) -> None:
    """Write a table in which pseudonyms are the hospital's own numbers again.

    Every cell that is a pseudonym of the crosswalk is replaced, whatever its column; beside a column of studies
    comes one with their accession numbers. The result names people: it is readable by you alone (0600).

    [bold]Examples[/]

    $ fewlabel data translate runs/ct/predictions.parquet --crosswalk private/ct/crosswalk.csv
    """
    from toolkit.scans.audit.crosswalk import translate_table

    target, num_cells, num_unknown = translate_table(file, crosswalk, to)
    out.print(f"[bold]wrote[/]     {num_cells:,} pseudonyms translated: ", end="")
    out.print(str(target), markup=False)
    if num_unknown:
        out.print(f"[bold]note[/]      {num_unknown:,} pseudonyms are not in this crosswalk and stay as they are")
