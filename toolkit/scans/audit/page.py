"""`audit.html`: what an audit found, in numbers and pictures that may be shown around. No path, no identifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from toolkit.private import write_private
from toolkit.reports.environment import page_environment
from toolkit.reports.style import COLOURS, drawing, svg
from toolkit.scans.audit.counts import label_table, labelled_scans, studies_a_subject, tables
from toolkit.scans.audit.montage import montage

_MOST_ROWS_NAMED = 12


def write_page(
    path: Path,
    manifest: pd.DataFrame,
    refused: pd.DataFrame,
    warnings: pd.DataFrame,
    thumbnails: Sequence[str | None],
) -> None:
    """Writes the page; equal findings give equal bytes.

    Args:
        path: The HTML file.
        manifest: As `manifest.csv`.
        refused: As `refused.csv`, with the column `kind`, a `Reason`.
        warnings: As `warnings.csv`.
        thumbnails: See `montage`.
    """
    environment = page_environment(Path(__file__).parent / "templates")
    style = environment.loader.get_source(environment, "page.css")[0]
    page = environment.get_template("audit.html.j2").render(
        counts={
            "scans": f"{len(manifest):,}",
            "subjects": f"{manifest['subject'].nunique():,}",
            "studies": f"{manifest.loc[manifest['study'] != '', 'study'].nunique():,}",
            "sites": f"{manifest.loc[manifest['site'] != '', 'site'].nunique():,}",
            "labelled scans": labelled_scans(manifest),
            "refused": f"{len(refused):,}",
        },
        refusals=_with_rows(refused["kind"]),
        warnings=_with_rows(warnings["warning"]),
        tables=tables(manifest),
        labels=label_table(manifest),
        figures=_figures(manifest),
        montage=montage(manifest, thumbnails),
        colours=COLOURS,
        style=Markup(style),
    )
    write_private(path, page.encode("utf-8"))


def _with_rows(kinds: pd.Series) -> list[tuple[str, int, str]]:
    """Each kind, how often, and in which rows of its table (1 is the first below the heading)."""
    found = []
    for kind, count in kinds.value_counts().sort_index().sort_values(ascending=False, kind="stable").items():
        rows = (np.flatnonzero(kinds == kind) + 1).tolist()
        named = ", ".join(map(str, rows[:_MOST_ROWS_NAMED])) + ", …" * (len(rows) > _MOST_ROWS_NAMED)
        found.append((str(kind), int(count), named))
    return found


def _figures(manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    studies = studies_a_subject(manifest)
    spacing, shape = (
        np.array([cell.split("x") for cell in manifest[column]], float).reshape(-1, 3)
        for column in ("spacing_mm", "shape")
    )
    figures = [
        ("Voxel spacing, mm", _histogram(spacing, "spacing", "Voxel spacing in mm by axis")),
        ("Shape, voxels", _histogram(shape, "shape", "Number of voxels by axis")),
        ("Extent, mm", _histogram(spacing * shape, "extent", "Extent in mm by axis")),
    ]
    if len(studies):
        figures.append(("Studies a subject", _counts(studies, "studies", "Studies a subject")))
    return figures


def _histogram(values: np.ndarray, name: str, alt: str) -> Markup:
    with drawing():
        figure = Figure(figsize=(3.6, 2.2))
        axes = figure.add_axes((0.15, 0.12, 0.83, 0.84))
        if values.size:
            edges = np.histogram_bin_edges(values, bins=min(24, max(4, len(values))))
            for axis, (label, colour) in enumerate(
                [("left-right", "ssl"), ("back-front", "ssl2"), ("bottom-top", "rival")]
            ):
                heights, _ = np.histogram(values[:, axis], edges)
                axes.stairs(heights, edges, label=label, color=COLOURS[colour], linewidth=1.4)
            axes.legend(frameon=False, fontsize=7)
        axes.set_ylabel("scans")
        axes.set_ylim(bottom=0)
        axes.yaxis.get_major_locator().set_params(integer=True)
    return Markup(svg(figure, name, alt))


def _counts(counts: pd.Series, name: str, alt: str) -> Markup:
    with drawing():
        figure = Figure(figsize=(3.6, 2.2))
        axes = figure.add_axes((0.15, 0.12, 0.83, 0.84))
        axes.bar([str(value) for value in counts.index], counts.to_numpy(), color=COLOURS["ssl"], width=0.6)
        axes.set_ylabel("subjects")
        axes.set_xlim(-1, len(counts))
        axes.yaxis.get_major_locator().set_params(integer=True)
    return Markup(svg(figure, name, alt))
