"""`fewlabel data synthesize`: a cohort of people who do not exist, to test and measure with."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.config import load


@data.command()
def synthesize(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of the configuration.")
    ] = None,
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the cohort goes.")] = Path("cohort"),
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="A YAML file of keys.")] = None,
    subjects: Annotated[int | None, typer.Option(help="People.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.")] = None,
    format: Annotated[str | None, typer.Option(help="dicom or nifti.")] = None,
    brain: Annotated[str | None, typer.Option(help="demo (fetched once) or parametric (no network).")] = None,
    sites: Annotated[int | None, typer.Option(help="Hospitals, each with its own scanner.")] = None,
    sessions: Annotated[int | None, typer.Option(help="Visits of each person.")] = None,
    spacing: Annotated[float | None, typer.Option(metavar="MM", help="Finest voxel size.")] = None,
    lesion: Annotated[
        str | None,
        typer.Option(metavar="KINDS", help="bright_sharp, bright_diffuse, dark_sharp, dark_diffuse; or none."),
    ] = None,
    shortcut: Annotated[float | None, typer.Option(help="Correlation of lesion and site, 0 to 1.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one a CPU.")] = None,
) -> None:
    """Make a cohort of people who do not exist: scans, masks, labels, and all that is true of them.

    Each person has a head of their own (bent from the demo's), a site with
    its own scanner, sessions, several sequences, and by chance a lesion with
    a label and a mask. Written as DICOM series or NIfTI, beside a data card
    that says SYNTHETIC. The same command goes on where it was cut off, and
    with more subjects it adds some.

    [bold]Examples[/]

    A hundred people from three hospitals, as a PACS would export them; then
    list them under pseudonyms, and store them with their masks:

    $ fewlabel data synthesize --subjects 100 --out cohort

    $ fewlabel data audit cohort/scans --out private --link cohort/labels.csv

    $ fewlabel data build private/manifest.csv --label-maps cohort/labels.csv

    Small, without network, as NIfTI, dark lesions deep in the brain:

    $ fewlabel data synthesize --subjects 20 --brain parametric --spacing 4
    --format nifti --lesion dark_sharp lesion.region=white_matter

    A shortcut to fall for, most lesions at one of two hospitals:

    $ fewlabel data synthesize --subjects 200 --sites 2 --shortcut 0.8

    Names in file names, to test that no tool passes them on:

    $ fewlabel data synthesize --subjects 5 names_in_files=true

    [bold]Keys[/] besides the flags: sequences=[T1,T2,FLAIR], missing (how often
    one is), names_in_files, multiframe, lesion.prevalence,
    lesion.volume_ml=[2,10], lesion.region (anywhere, white_matter, cortex,
    left, right), lesion.contrast, lesion.growth (from session to session).
    """
    from toolkit.scans.cohort import CohortConfig
    from toolkit.scans.cohort import synthesize as make

    given = {
        "num_subjects": subjects,
        "seed": seed,
        "format": format,
        "brain": brain,
        "num_sites": sites,
        "num_sessions": sessions,
        "spacing_mm": spacing,
        "shortcut": shortcut,
    }
    chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
    if lesion is not None:
        chosen.append("lesion.prevalence=0" if lesion == "none" else f"lesion.kinds=[{lesion}]")
    truth = make(load(config, CohortConfig, [*chosen, *(overrides or ())]), to, num_workers=workers)
    people = truth.drop_duplicates("number")
    with_lesion = int((people["label"] == "lesion").sum())
    lines = {
        "people": f"{len(people)}, {with_lesion} with a lesion, at {truth['site'].nunique()} sites",
        "series": f"{len(truth)} in {to / 'scans'}",
        "labels": f"{to / 'labels.csv'}; all that is known: {to / 'truth.csv'}",
        "card": f"{to / 'card.md'}: SYNTHETIC, with what the data must not be used for",
        "next": f"fewlabel data audit {to / 'scans'} --out private --link {to / 'labels.csv'}",
    }
    for heading, line in lines.items():
        out.print(f"[bold]{heading:<8}[/]", end="")
        out.print(line, markup=False)
