"""`audit.html`: what an audit of texts found, in numbers that may be shown around. No text, no path, no name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from toolkit.balance import sampling_shares
from toolkit.private import write_private
from toolkit.reports.environment import page_environment
from toolkit.reports.style import COLOURS, drawing, svg
from toolkit.text.audit.characters import FINDINGS
from toolkit.text.audit.config import TextAuditConfig
from toolkit.text.audit.run import TextAudit

TEMPERATURE = 2.0
"""Of the shares that the page shows: the recipe's default."""
_MOST_LANGUAGES, _MOST_OTHERS = 40, 25
REASONS = {
    "empty": ("left out", "no letter and no digit"),
    "exact": ("left out", "the same as an earlier text of its language but for case, width, punctuation and spacing"),
    "near": ("left out", "a near-duplicate of an earlier text of its language"),
    "cut": ("kept in pieces", "longer than 100,000 characters: cut at white space, the pieces count as texts"),
    "mended": ("kept, changed", "lone surrogates, which no encoding has, became U+FFFD"),
}
"""What becomes of a text that is not kept as it stands."""


def write_page(path: Path, audit: TextAudit, config: TextAuditConfig) -> None:
    """Writes the page; equal findings give equal bytes.

    Args:
        path: The HTML file.
        audit: What was found.
        config: What was looked for.
    """
    environment = page_environment(Path(__file__).parent / "templates")
    assert environment.loader is not None
    style = environment.loader.get_source(environment, "page.css")[0]
    total = audit.languages.sum()
    page = environment.get_template("audit.html.j2").render(
        counts={
            "rows read": f"{total['read']:,}",
            "texts kept": f"{total['kept']:,}",
            "languages": f"{len(audit.languages):,}",
            "characters kept": f"{total['kept_characters']:,}",
            "sources": f"{len(audit.sources):,}",
            "files refused": f"{len(audit.refused):,}",
        },
        languages=_languages(audit.languages),
        figure=_figure(audit.languages.head(_MOST_LANGUAGES)),
        rare=[(code, int(audit.languages.loc[code, "kept"])) for code in audit.rare],
        undetermined=int(audit.languages["given"].get("und", 0)),
        reasons=[(name, *meaning, int(total[name])) for name, meaning in REASONS.items()],
        near=config.near,
        refused=_refused(audit.refused),
        characters=_by_kind(audit.characters, {name: finding.meaning for name, finding in FINDINGS.items()}),
        personal=_personal(audit) if config.personal else None,
        others=None if audit.others is None else list(audit.others.head(_MOST_OTHERS).itertuples(index=False)),
        colours=COLOURS,
        style=Markup(style),
    )
    write_private(path, page.encode("utf-8"))


def _languages(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    kept = {str(code): int(count) for code, count in table["kept"].items() if count}
    shares = sampling_shares(kept, TEMPERATURE)
    rows = []
    for row in table.itertuples():
        share = shares.get(row.Index, 0.0)
        passes = share * sum(kept.values()) / row.kept if row.kept else 0.0
        counts = (row.given, row.exact, row.near, row.kept)
        length = row.kept_characters / row.kept if row.kept else 0.0
        cells = [*(f"{count:,}" for count in counts), f"{row.kept_characters:,}", f"{length:,.0f}", f"{share:.1%}"]
        rows.append((str(row.Index), [*cells, f"{passes:,.1f}" if passes < 100 else f"{passes:,.0f}"]))
    return rows


def _by_kind(table: pd.DataFrame, meanings: dict[str, str]) -> list[tuple[str, int, str, str]]:
    """Kind, texts, the languages with most of them, and what it means; the commonest first."""
    found = []
    for kind, part in table.groupby("kind", sort=False):
        listed = ", ".join(f"{row.language} {row.texts:,}" for row in part.head(3).itertuples())
        more = f", and {len(part) - 3} more" if len(part) > 3 else ""
        found.append((str(kind), int(part["texts"].sum()), listed + more, meanings[str(kind)]))
    return sorted(found, key=lambda row: -row[1])


def _personal(audit: TextAudit) -> list[tuple[str, int, int, str, list[str]]]:
    rows = []
    for kind, texts, listed, _ in _by_kind(audit.personal, dict.fromkeys(audit.personal["kind"], "")):
        places = int(audit.personal.loc[audit.personal["kind"] == kind, "places"].sum())
        shapes = audit.shapes.loc[audit.shapes["kind"] == kind, "shape"].tolist()
        rows.append((kind, texts, places, listed, shapes))
    return rows


def _refused(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Reasons without the file's path, and how many files have each."""
    reasons = pd.Series(
        [str(why).replace(str(path), "", 1).lstrip(":, ") for path, why in table.itertuples(index=False)], dtype=object
    )
    # A reason names its line, so that two files hardly have the same: what follows the line is the reason.
    return list(reasons.str.replace(r"^line \d+: ", "", regex=True).value_counts().items())


def _figure(table: pd.DataFrame) -> Markup:
    counts: Sequence[tuple[str, str]] = (("given", "line"), ("kept", "ssl"))
    with drawing():
        figure = Figure(figsize=(7.2, 0.9 + 0.22 * len(table)))
        axes = figure.add_axes((0.09, 0.6 / figure.get_figheight(), 0.89, 1 - 0.8 / figure.get_figheight()))
        places = np.arange(len(table))[::-1]
        for offset, (column, colour) in zip((0.2, -0.2), counts, strict=True):
            label = {"given": "before", "kept": "after repeats were dropped"}[column]
            axes.barh(places + offset, table[column].clip(lower=0.8), height=0.36, color=COLOURS[colour], label=label)
        axes.set_yticks(places, [str(code) for code in table.index])
        axes.set_xscale("log")
        axes.set_xlim(left=0.8)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.7, len(table) - 0.3)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("texts, on a logarithmic axis")
        axes.legend(frameon=False, fontsize=7, loc="lower right")
    return Markup(svg(figure, "languages", "Texts of each language before and after repeats were dropped"))
