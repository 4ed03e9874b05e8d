"""`fewlabel data audit-text`: what is in a corpus, before anything is learnt from it."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.config import validate

DONE_WITH_REFUSALS = 3
MOST_NAMED = 5


@data.command("audit-text")
def audit_text(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXTS...", help="Files, folders, data cards or folders of datasets.")
    ],
    to: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A private folder (0700) for its tables; new or empty.")
    ],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the texts in tables.")] = "text",
    language: Annotated[str, typer.Option(metavar="CODE", help="Of texts that name none.")] = "",
    language_column: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the languages.")] = "",
    language_pattern: Annotated[
        str, typer.Option(metavar="REGEX", help="Searched in a file's path; its first group is the language.")
    ] = "",
    file_format: Annotated[
        str, typer.Option("--format", help="lines, documents (a text a file), table, jsonl, ...; else by suffix.")
    ] = "auto",
    encoding: Annotated[str, typer.Option(help="Of the files.")] = "utf-8",
    near: Annotated[float, typer.Option(help="Shared shingles from which texts are near-duplicates; 1: none.")] = 0.8,
    check_languages: Annotated[
        bool, typer.Option("--check-languages", help="Identify languages too (needs fewlabel[text]).")
    ] = False,
    personal: Annotated[bool, typer.Option(help="Look for personal data.")] = True,
) -> None:
    """Read every text once and count: languages, repeats, odd characters, personal data.

    Into DIR go audit.html, which holds counts only and may be shown around; languages.csv; flagged.csv, which texts
    hold what, by their number; and refused.csv, the reason for every file that was left out. No text is printed or
    copied, and nothing is changed: the data stay as they are. Ends with code 3 where a file was refused.

    [bold]Examples[/]

    $ fewlabel data audit-text letters/ --out private/letters --format documents --language de

    $ fewlabel data audit-text reviews.csv.gz sentiment_en --out private/reviews --text body --language-column lang
    """
    from toolkit.text.audit import TextAuditConfig, audit_texts
    from toolkit.text.sources import TextSource

    columns = {"text": text} | ({"language": language_column} if language_column else {})
    shared = {
        "columns": columns,
        "language": language,
        "language_pattern": language_pattern,
        "format": file_format,
        "encoding": encoding,
    }
    sources = [validate({"path": one} | shared, TextSource, "fewlabel data audit-text") for one in texts]
    values = {"near": near, "languages": check_languages, "personal": personal}
    found = audit_texts(sources, to, validate(values, TextAuditConfig, "fewlabel data audit-text"))

    total = found.languages.sum()
    listed = ", ".join(f"{code} {kept:,}" for code, kept in found.languages["kept"].head(12).items())
    more = f", and {len(found.languages) - 12} more" if len(found.languages) > 12 else ""
    lines = [("kept", f"{total['kept']:,} texts of {total['read']:,} rows: {listed}{more}")]
    dropped = [f"{total[name]:,} {name}" for name in ("empty", "exact", "near", "cut", "mended") if total[name]]
    lines += [("not as is", ", ".join(dropped))] if dropped else []
    lines += [("rare", f"{code} has {found.languages.loc[code, 'kept']:,} texts") for code in found.rare[:MOST_NAMED]]
    odd = found.characters.groupby("kind", sort=False)["texts"].sum()
    lines += [("odd", ", ".join(f"{kind} in {count:,} texts" for kind, count in odd.items()))] if len(odd) else []
    people = found.personal.groupby("kind", sort=False)["texts"].sum()
    if len(people):
        lines.append(("personal", ", ".join(f"{kind} in {count:,} texts" for kind, count in people.items())))
    if found.others is not None:
        lines.append(("language", f"{found.others['texts'].sum():,} texts are surely in another one"))
    lines += [("refused", why) for why in found.refused["reason"].head(MOST_NAMED)]
    if len(found.refused) > MOST_NAMED:
        lines.append(("refused", f"and {len(found.refused) - MOST_NAMED:,} more: {to / 'refused.csv'}"))
    lines.append(("page", str(to / "audit.html")))
    for heading, line in lines:
        out.print(f"[bold]{heading:<9}[/]", end=" ")
        out.print(line, markup=False)
    if len(found.refused):
        raise typer.Exit(DONE_WITH_REFUSALS)
