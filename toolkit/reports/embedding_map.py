"""A scatter of embeddings as inline SVG: readable without a script, with hover where scripts run."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from toolkit.errors import DataError
from toolkit.reports.names import LANGUAGES
from toolkit.reports.report import EmbeddingMap

MAX_POINTS = 3000
MAX_TEXT = 160  # characters of a hover text
SIZE = 1000
# Paul Tol's qualitative schemes for all kinds of colour vision (personal.sron.nl/~pault): bright, then muted.
BRIGHT = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999")
MUTED = (
    "#cc6677",
    "#4a3fae",
    "#c9b44f",
    "#117733",
    "#88ccee",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#999999",
)


@dataclass(frozen=True)
class Dots:
    """The points of one label and group as one SVG path of strokes without length, whose round caps show."""

    label: int
    group: int
    label_colour: str
    group_colour: str
    path: str


@dataclass(frozen=True)
class DrawnMap:
    """What the template needs; `data` is for hovering: names, and x, y, label, group, text of each dot."""

    title: str
    caption: str
    alt: str
    size: int
    dots: list[Dots]
    labels: list[tuple[str, str]]
    groups: list[tuple[str, str]]
    group_name: str
    data: dict[str, list]


def draw_map(given: EmbeddingMap) -> DrawnMap:
    """Places the points on a square, y up, and thins them evenly if there are more than MAX_POINTS.

    Raises:
        DataError: If a column is missing or no point is finite.
    """
    missing = [column for column in ("x", "y", "label", "text") if column not in given.points]
    if missing:
        raise DataError(f"embedding map {given.title}: column {', '.join(missing)} is missing")
    points = given.points[np.isfinite(given.points[["x", "y"]].to_numpy(float)).all(axis=1)]
    if points.empty:
        raise DataError(f"embedding map {given.title}: no point has finite x and y")
    points = points.iloc[np.unique(np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).round().astype(int))]
    place = points[["x", "y"]].to_numpy(float)
    extent = np.ptp(place, axis=0).max() or 1.0
    place = 0.5 + 0.96 * (place - (place.min(axis=0) + place.max(axis=0)) / 2) / extent
    x, y = (SIZE * place[:, 0]).round().astype(int), (SIZE * (1 - place[:, 1])).round().astype(int)
    labels, label_names = pd.factorize(points["label"].astype(str), sort=True)
    groups, group_names = pd.factorize(points.get("group", pd.Series("", points.index)).astype(str), sort=True)
    shown_groups = [LANGUAGES.get(name, name) for name in group_names]
    label_colours, group_colours = _colours(len(label_names)), _colours(len(group_names))
    dots = [
        Dots(label, group, label_colours[label], group_colours[group], _path(x[at], y[at]))
        for label in range(len(label_names))
        for group in range(len(group_names))
        if (at := (labels == label) & (groups == group)).any()
    ]
    texts = [text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…" for text in points["text"].astype(str)]
    return DrawnMap(
        title=given.title,
        caption=given.caption,
        alt=f"Scatter of {len(points)} embeddings in {len(label_names)} labels: {', '.join(label_names)}.",
        size=SIZE,
        dots=dots,
        labels=list(zip(label_names, label_colours, strict=True)),
        groups=list(zip(shown_groups, group_colours, strict=True)) if len(shown_groups) > 1 else [],
        group_name=given.group_name,
        data={
            "labels": list(label_names),
            "groups": shown_groups,
            "x": x.tolist(),
            "y": y.tolist(),
            "label": labels.tolist(),
            "group": groups.tolist(),
            "text": texts,
        },
    )


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "".join(f"M{a} {b}h0" for a, b in zip(x, y, strict=True))


def _colours(number: int) -> list[str]:
    palette = BRIGHT if number <= len(BRIGHT) else MUTED
    return [palette[i % len(palette)] for i in range(number)]
