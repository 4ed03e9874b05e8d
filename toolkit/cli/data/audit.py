"""`fewlabel data audit`: what a hospital exported, read once and listed under pseudonyms."""

import re
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.config import validate
from toolkit.errors import ConfigError

DONE_WITH_REFUSALS = 3
_OPTIONS = {
    "modalities": "modality", "subject_pattern": "subject", "link_on": "on", "num_workers": "workers",
    "timeout_s": "timeout",
}  # fmt: skip
"""What a key of `AuditConfig` is called here, where it is not called the same."""


@data.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="Any tree of DICOM, NIfTI, NRRD or MetaImage files.")],
    to: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A private folder (0700) for its tables; new or empty.")
    ],
    modality: Annotated[str, typer.Option(metavar="LIST", help="DICOM modalities that are kept.")] = "CT,MR,PT",
    keep_derived: Annotated[bool, typer.Option(help="Keep derived and secondary images.")] = False,
    keep_all_series: Annotated[
        bool, typer.Option(help="Keep every series of a study, also those that show the same again.")
    ] = False,
    prefer: Annotated[
        str, typer.Option(metavar="LIST", help="Which of several series of a kind is chosen; the first rule leads.")
    ] = "original,thin,axial,slices,soft",
    min_slices: Annotated[int, typer.Option(help="A series with fewer slices is refused.")] = 2,
    subject: Annotated[
        str, typer.Option(metavar="REGEX", help="Searched in the path; its first group is the subject.")
    ] = "",
    link: Annotated[
        Path | None, typer.Option(metavar="CSV", help="A table of labels, joined before anything is hashed.")
    ] = None,
    on: Annotated[str, typer.Option(help="Its column that names the scan: accession, subject or path.")] = "subject",
    label_column: Annotated[str, typer.Option(help="Its column of labels.")] = "label",
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one a core.")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="A file that takes longer is refused.")] = 600.0,
) -> None:
    """Read every scan below a folder once, check it, and write a manifest under pseudonyms.

    Into DIR go manifest.csv; refused.csv with the reason for every file or series that was left out; warnings.csv
    (faces, burned-in annotation, subjects that were guessed); crosswalk.csv, who is who; and audit.html, which names
    nobody, hides counts of fewer than five people and may be shown around. Run it again after a change: only what is
    new is read. Ends with code 3 where something was refused.

    An audit of other scans into the same DIR is said to be one; crosswalk.csv keeps every line that it ever had.

    Subjects, studies and sites become keyed hashes. The key lies in $FEWLABEL_DATA/.key (~/.cache/fewlabel/data/.key)
    and is drawn on first use: with one key the same person has the same pseudonym in every audit, in `fewlabel init`
    and in tables of texts, so keep it, and share it with nobody. Dates and free texts are not kept: a session is a
    number in order, a sequence one of a few names, a site a keyed hash of InstitutionName, a scanner its maker and
    model without any word that names a person or place in the same tags.

    [bold]Examples[/]

    $ fewlabel data audit /data/export --out private/export

    $ fewlabel data audit /data/export --out private/export --link labels.csv --on accession --modality CT

    Scans of one person side by side, 1234_T1.nii and 1234_FLAIR.nii:

    $ fewlabel data audit /data/flat --out private/flat --subject '([^/_]+)_[^/]*$'
    """
    from toolkit.scans.audit import AuditConfig, audit_folder

    values = {
        "modalities": [name.strip().upper() for name in modality.split(",") if name.strip()],
        "keep_derived": keep_derived,
        "keep_all_series": keep_all_series,
        "prefer": [name.strip() for name in prefer.split(",") if name.strip()],
        "min_slices": min_slices,
        "subject_pattern": subject,
        "link": link,
        "link_on": on,
        "label_column": label_column,
        "num_workers": workers,
        "timeout_s": timeout,
    }
    try:
        config = validate(values, AuditConfig, "fewlabel data audit")
    except ConfigError as error:
        raise ConfigError(*map(_with_option, error.mistakes)) from None
    found = audit_folder(folder, to, config)
    manifest = found.manifest
    lines = [("kept", f"{len(manifest):,} scans of {manifest['subject'].nunique():,} subjects: {to / 'manifest.csv'}")]
    if not found.refused.empty:
        counts = found.refused["kind"].value_counts()
        listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        lines.append(("refused", f"{len(found.refused):,} ({listed}): {to / 'refused.csv'}"))
    lines += [("warning", f"{count:,} {kind}") for kind, count in found.warnings["warning"].value_counts().items()]
    if link is not None:
        left = found.unmatched["where"].value_counts()
        lines.append(("labels", f"{int((manifest['label'] != '').sum()):,} scans have one"))
        lines.append(
            (
                "unmatched",
                f"{left.get('labels', 0):,} rows of the table, {left.get('scans', 0):,} scans: {to / 'unmatched.csv'}",
            )
        )
    lines.append(("page", str(to / "audit.html")))
    for heading, line in lines:
        out.print(f"[bold]{heading:<9}[/]", end=" ")
        out.print(line, markup=False)
    if not found.refused.empty:
        raise typer.Exit(DONE_WITH_REFUSALS)


def _with_option(mistake: str) -> str:
    """A line of `validate` that names the option, not the key behind it."""
    command, key, rest = re.match(r"(.*?: )(\w+)(.*)", mistake).groups()  # type: ignore[union-attr]
    return f"{command}--{_OPTIONS.get(key, key).replace('_', '-')}{rest}"
