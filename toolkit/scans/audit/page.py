"""`audit.html`: what an audit found, in numbers and pictures that may be shown around. No path, no identifier."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import image
from matplotlib.figure import Figure

from toolkit.reports.style import COLOURS, drawing, svg
from toolkit.scans.audit.look import THUMBNAIL_PIXELS
from toolkit.scans.audit.private import write_private

_COLUMNS_OF_PICTURES, _MOST_PICTURES = 12, 48
_MOST_ROWS_NAMED = 12
_MOST_LABELS, _LONGEST_LABEL, _MOST_SITES = 20, 40, 8


def write_page(
    path: Path,
    manifest: pd.DataFrame,
    refused: pd.DataFrame,
    warnings: pd.DataFrame,
    thumbnails: Sequence[bytes | None],
) -> None:
    """Writes the page; equal findings give equal bytes.

    Args:
        path: The HTML file.
        manifest: As `manifest.csv`.
        refused: As `refused.csv`, with the column `kind`, a `Reason`.
        warnings: As `warnings.csv`.
        thumbnails: Of each row of the manifest the middle slice, or None where it must not be shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
                jinja2.PackageLoader("toolkit.reports", "templates"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.loader.get_source(environment, "page.css")[0]
    page = environment.get_template("audit.html.j2").render(
        counts={
            "scans": len(manifest),
            "subjects": manifest["subject"].nunique(),
            "studies": manifest.loc[manifest["study"] != "", "study"].nunique(),
            "sites": manifest.loc[manifest["site"] != "", "site"].nunique(),
            "labelled scans": int((manifest["label"] != "").sum()),
            "refused": len(refused),
        },
        refusals=_with_rows(refused["kind"]),
        warnings=_with_rows(warnings["warning"]),
        tables=_tables(manifest),
        labels=_labels(manifest),
        figures=_figures(manifest),
        montage=_montage(manifest, thumbnails),
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


def _tables(manifest: pd.DataFrame) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """Sites, scanners, modalities, sequences: for each value its subjects and scans, the most frequent first."""
    tables = []
    for title, column in (("Site", "site"), ("Scanner", "scanner"), ("Modality", "modality"), ("Sequence", "sequence")):
        counted = manifest.groupby(column)["subject"].agg(["nunique", "size"]).sort_values("size", ascending=False)
        rows = [(str(name) or "not said", int(some), int(scans)) for name, some, scans in counted.itertuples()]
        tables.append((title, rows))
    return tables


def _labels(manifest: pd.DataFrame) -> tuple[list[str], list[tuple[str, int, int, list[int]]]] | None:
    """Sites; and for each label its subjects, its scans, and those of each site. None without labels.

    The page is shown around, and a label may be anything: one that a single subject has, or a long one, is not named.
    """
    given = manifest[manifest["label"] != ""]
    if given.empty:
        return None
    counted = given.groupby("label")["subject"].agg(["nunique", "size"]).sort_values("size", ascending=False)
    may_name = counted.index[(counted["nunique"] > 1) & (counted.index.str.len() <= _LONGEST_LABEL)][:_MOST_LABELS]
    label = given["label"].where(given["label"].isin(may_name), f"{len(counted) - len(may_name):,} others")
    site = given["site"].where(given["site"] != "", "not said")
    largest = site.value_counts().index[:_MOST_SITES]
    site = site.where(site.isin(largest), "others")
    sites = [*largest, *(["others"] if (site == "others").any() else [])]
    rows = []
    for name in [*may_name, *sorted(set(label) - set(may_name))]:
        scans = label == name
        per_site = [int((scans & (site == one)).sum()) for one in sites]
        rows.append((str(name), int(given["subject"][scans].nunique()), int(scans.sum()), per_site))
    return sites, rows


def _figures(manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    sessions = manifest[manifest["study"] != ""].groupby("subject")["study"].nunique()
    spacing, shape = (
        np.array([cell.split("x") for cell in manifest[column]], float).reshape(-1, 3)
        for column in ("spacing_mm", "shape")
    )
    return [
        ("Voxel spacing, mm", _histogram(spacing, "spacing", "Voxel spacing in mm by axis")),
        ("Shape, voxels", _histogram(shape, "shape", "Number of voxels by axis")),
        ("Extent, mm", _histogram(spacing * shape, "extent", "Extent in mm by axis")),
        ("Studies a subject", _counts(sessions.value_counts().sort_index(), "studies", "Studies a subject")),
    ]


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


def _montage(manifest: pd.DataFrame, thumbnails: Sequence[bytes | None]) -> tuple[str, int, int, int] | None:
    """Middle slices side by side (base64 PNG, how many, width, height), one a subject first; None without any."""
    may_show = [number for number, thumbnail in enumerate(thumbnails) if thumbnail is not None]
    turn = manifest.groupby("subject").cumcount().to_numpy()
    chosen = sorted(may_show, key=lambda number: (turn[number], number))
    if len(chosen) > _MOST_PICTURES and (turn[chosen] == 0).sum() > _MOST_PICTURES:
        chosen = [number for number in chosen if turn[number] == 0]
        chosen = [chosen[at] for at in np.linspace(0, len(chosen) - 1, _MOST_PICTURES).astype(int)]
    chosen = chosen[:_MOST_PICTURES]
    if not chosen:
        return None
    columns = min(_COLUMNS_OF_PICTURES, len(chosen))
    rows = -(-len(chosen) // columns)
    side, gap = THUMBNAIL_PIXELS, 2
    sheet = np.zeros((rows * (side + gap) - gap, columns * (side + gap) - gap), np.uint8)
    for place, number in enumerate(chosen):
        top, left = (place // columns) * (side + gap), (place % columns) * (side + gap)
        picture = np.frombuffer(base64.b64decode(thumbnails[number] or b""), np.uint8)
        sheet[top : top + side, left : left + side] = picture.reshape(side, side)
    buffer = io.BytesIO()
    image.imsave(buffer, np.repeat(sheet[..., None], 3, axis=2), format="png", metadata={"Software": None})
    height, width = sheet.shape
    return base64.b64encode(buffer.getvalue()).decode("ascii"), len(chosen), width, height
