"""`fewlabel init`: from a user's own data to a card and a configuration that runs."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import DATA, app, out
from toolkit.cli.drafts import Draft
from toolkit.errors import DataError, DiskError, FewlabelError

FEWEST_OF_A_CLASS = 10
"""With fewer rows a class has too few to hold some out and learn from the rest."""


@app.command(rich_help_panel=DATA)
def init(
    source: Annotated[Path, typer.Argument(help="A folder of scans, or a table of texts (CSV, TSV, JSONL, Parquet).")],
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path(),
    name: Annotated[str | None, typer.Option("--name", help="What to call the data.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the texts, not the guess.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the labels, not the guess.")] = None,
    language: Annotated[str, typer.Option("--language", help="Code of a table without such a column.")] = "und",
    subject: Annotated[
        str, typer.Option(metavar="REGEX", help="Searched in a scan's path; its first group is the subject.")
    ] = "",
) -> None:
    """Look at your data and write a card draft and a configuration that runs; for scans a manifest too.

    Says what it saw and what it guessed. Overwrites nothing, and copies none of your data.

    [bold]Examples[/]

    $ fewlabel init /data/mri --out my-study

    Scans of one person side by side, such as 1234_T1.nii and 1234_FLAIR.nii:

    $ fewlabel init /data/flat --out my-study --subject '([^/_]+)_[^/]*$'

    $ fewlabel init reviews.csv --out my-study --text body --label stars
    """
    name = re.sub(r"[^a-z0-9]+", "_", (name or source.resolve().name.partition(".")[0]).casefold()).strip("_") or "data"
    recipe = "scan_pretrain" if source.is_dir() else "text_pretrain"
    card, config = to / "data_cards" / f"{name}.md", to / "configs" / recipe / f"{name}.yaml"
    for path in (card, config, to / "private" / name / "manifest.csv"):
        if path.exists():
            raise FewlabelError(f"{path} is there already and is kept; give another --name or --out")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_dir() and (text or label):
        raise FewlabelError(f"{source}: is a folder of scans; --text and --label are for a table of texts")
    if source.is_file() and subject:
        raise FewlabelError(f"{source}: is a table of texts; --subject is for a folder of scans")
    draft = _scans(source, to, name, subject) if source.is_dir() else _texts(source, name, text, label, language)
    data = _kept_private(source, to / "private" / name) if source.is_dir() else source.resolve()
    for path, content in (
        (card, draft.card(Path(os.path.relpath(data, card.parent.resolve())).as_posix())),
        (config, draft.configuration),
    ):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise DiskError(
                f"{path}: cannot be written ({error.strerror}); give another --out, or free some space"
            ) from None
    enter = "" if to == Path() else f"cd {to} && "
    for heading, line in [
        *draft.saw,
        ("wrote", str(card)),
        ("wrote", str(config)),
        ("next", enter + draft.launch),
    ]:
        out.print(f"[bold]{heading:<9}[/]", end="")
        out.print(line, markup=False)


def _texts(source: Path, name: str, text: str | None, label: str | None, language: str) -> Draft:
    from toolkit.cli.tables import class_counts, describe_table

    table = describe_table(source, text, label)
    classes = class_counts(table)
    rare = [value for value, count in classes.items() if count < FEWEST_OF_A_CLASS]
    kept = [value for value in classes if value not in rare]
    kept = kept if len(kept) > 1 else []  # one class is nothing to tell apart
    cells = table.frame[table.text]
    known = set(table.frame[table.language].str.strip()) if table.language else {language}
    languages = sorted(known - {""}) + ["und"] * ("" in known and "und" not in known)
    listed = ", ".join(f"{value} ({count:,})" for value, count in classes.items())
    saw = [
        ("saw", f"{source.name}: {len(cells):,} rows, columns {', '.join(table.frame)}"),
        ("texts", f"{table.text!r}, {cells.str.len().mean():.0f} characters on average"),
        ("labels", f"{table.label!r}: {listed}" if classes else "none found; --label COLUMN names one"),
        ("language", f"{table.language!r}: " * bool(table.language) + ", ".join(languages)),
        (
            "groups",
            f"{table.group!r} never straddles a split" if table.group else "none; a text stands alone",
        ),
    ]
    if rare:
        saw.append(("note", f"under {FEWEST_OF_A_CLASS} rows, so left out of label_map: {', '.join(rare)}"))
        if not kept:
            saw.append(("note", "too few classes are left for a label_map; texts count as unlabelled"))
    if table.language and "" in known:
        saw.append(("note", "und stands for the empty cells of the language"))
    elif languages == ["und"]:
        saw.append(("note", "und is an undetermined language; --language CODE names it"))
    if table.personal:
        saw.append(("personal", f"never read: {', '.join(table.personal)}"))
    columns = {"text": table.text, "label": table.label, "language": table.language, "group": table.group}
    file = {"delimiter": table.delimiter, "encoding": table.encoding}
    reader = {"format": table.format, "member": source.name} | {k: v for k, v in (columns | file).items() if v}
    return Draft(
        name=name,
        saw=saw,
        readers=[reader],
        unit="group" if table.group else "text",
        recipe="text_pretrain",
        settings=f"cards: [{name}]",
        languages=languages,
        classes=kept,
        never_read=table.personal,
    )


def _kept_private(source: Path, private: Path) -> Path:
    """A link to the folder of scans, whose path may name people, for the card to point at."""
    from toolkit.private import writing

    link = private.resolve() / "scans"
    with writing(link):
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve(), target_is_directory=True)
    return link


def _scans(source: Path, to: Path, name: str, subject: str) -> Draft:
    from toolkit.config import validate
    from toolkit.scans.audit import AuditConfig, audit_folder
    from toolkit.scans.preprocessing import BELOW_IS_HU
    from toolkit.scans.volumes import split_path

    private = to / "private" / name
    found = audit_folder(
        source, private, validate({"subject_pattern": subject}, AuditConfig, "fewlabel init --subject")
    )
    manifest, refused = found.manifest, len(found.refused)
    kinds = manifest["modality"].replace("", "of unknown modality").value_counts()
    people = manifest["subject"].nunique()
    spacings = manifest["spacing_mm"].value_counts()
    saw = [
        (
            "saw",
            f"{len(manifest)} scans of {people} people: "
            + ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        ),
        (
            "spacing",
            f"mostly {spacings.index[0]} mm, {len(spacings)} different"
            if len(spacings) > 1
            else f"{spacings.index[0]} mm",
        ),
        ("private", f"{private}/ holds paths and who is who; for your eyes only, but for audit.html"),
    ]
    saw += [("warning", f"{count:,} {kind}") for kind, count in found.warnings["warning"].value_counts().items()]
    tables = f"private/{name}"
    parting = f"fewlabel data split {tables}/manifest.csv --out {tables}/split"
    saw.append(("note", f"nothing is held out to be tested on; {parting} does it, and the configuration says how"))
    settings = (
        f"# Nothing is held out to be tested on. To hold a fifth of the people out, run\n#   {parting}\n"
        f"# and put in place of the next line\n#   manifest: {tables}/split/train.csv\n"
        f"#   held_out: [{tables}/split/test.csv]\nmanifest: {tables}/manifest.csv"
    )
    guessed = (manifest["modality"] == "CT?").sum()
    if guessed:
        saw.append(
            ("note", f"CT? is a guess: {guessed} go below {BELOW_IS_HU:g}, as Hounsfield units do and MR does not")
        )
    is_ct = manifest["modality"].isin(["CT", "CT?"])
    if is_ct.any():
        # Not otsu: its threshold lies between air and tissue and would cut the lungs out.
        settings += "\npreprocessing:\n  intensity: modality  # CT by its window, others by percentiles"
        settings += "\n  foreground: all  # CT: fat and lung are below 0, and count"
        settings += "\nviews: {modality: ct}" * bool(is_ct.all())
        saw.append(("note", "CT has tissue below 0, so all voxels count as foreground, those of other scans too"))
    else:
        settings += "\npreprocessing: {foreground: otsu}  # a scanner's noise puts air above 0"
    if refused:
        saw.append(("refused", f"{refused}; {private / 'refused.csv'} says why"))
    places = [split_path(path)[0].relative_to(source.resolve()) for path in manifest["path"]]
    return Draft(
        name=name,
        saw=saw,
        readers=[{"format": "volume", "member": pattern} for pattern in sorted({_pattern(place) for place in places})],
        unit="subject",
        recipe="scan_pretrain",
        settings=settings,
    )


def _pattern(inside: Path) -> str:
    """`a/b/scan.nii.gz` as `*/*/*.nii.gz`: which files are scans, without anybody's name."""
    from toolkit.scans.volumes import VOLUME_SUFFIXES

    length = next((len(suffix) for suffix in VOLUME_SUFFIXES if inside.name.lower().endswith(suffix)), 0)
    return "/".join(["*"] * (len(inside.parts) - 1) + ["*" + inside.name[len(inside.name) - length :]])
