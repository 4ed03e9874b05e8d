"""Writes the report: one HTML file that needs no network, no other file and no script to be read."""

import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from toolkit.console import log
from toolkit.errors import DataError, DiskError
from toolkit.reports.embedding_map import draw_map
from toolkit.reports.environment import page_environment
from toolkit.reports.figures import panel_figure
from toolkit.reports.headline import Claim, claims, headline
from toolkit.reports.monitors import MONITORS, Monitor, monitors_figure
from toolkit.reports.names import LEGS, METRICS, seconds
from toolkit.reports.panels import Panel, panels
from toolkit.reports.ranking import ranking_tables
from toolkit.reports.report import Picture, Pretraining, Report
from toolkit.reports.score_table import Difference, ScoreTable, against_each, saved_tables, score_table
from toolkit.reports.style import COLOURS, svg

LARGE_PAGE_BYTES = 5_000_000


@dataclass(frozen=True)
class TaskView:
    """One task as the template shows it; it has no claim where each of several pretrainings has one."""

    title: str
    leg: str
    claim: Claim | None
    curves: Markup
    tables: list[tuple[str, ScoreTable]]
    versus: list[tuple[str, list[tuple[str, list[Difference]]]]]


@dataclass(frozen=True)
class PretrainingView:
    """One pretraining as the template shows it: each monitor, its drawing, its first and last value."""

    title: str
    monitors: list[tuple[Monitor, Markup, str]]
    collapsed: bool


def write_report(path: Path, report: Report) -> Path:
    """Writes `report` as one self-contained page; equal reports give equal bytes.

    Args:
        path: The HTML file; its folder must exist.
        report: What the page shows.

    Returns:
        `path`.

    Raises:
        DataError: If a table lacks a column or a picture is no PNG.
        DiskError: If the file cannot be written.
    """
    page = render(report).encode("utf-8")
    if len(page) > LARGE_PAGE_BYTES:
        log.warning("%s: %.1f MB; smaller pictures would make it quicker to open", path.name, len(page) / 1e6)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(page)
        temporary.replace(path)
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({error.strerror}); free space or give another folder") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(report: Report) -> str:
    """The page as text. Everything from tables, cards and captions is escaped by the template engine."""
    environment = page_environment()
    environment.filters["seconds"] = seconds
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    found = panels(report.summary, report.metric)
    others = [metric for metric in report.summary["metric"].unique() if metric != report.metric]
    every = [found, *(panels(report.summary, metric) for metric in others)]
    made = [claims(panel) for panel in found]
    tasks = [_task(panel, own, every, report, i) for i, (panel, own) in enumerate(zip(found, made, strict=True))]
    flat = [one for own in made for one in own]
    return environment.get_template("page.html.j2").render(
        report=report,
        metric=METRICS.get(report.metric, report.metric),
        headline=headline(flat),
        claims=flat,
        rankings=[] if report.ranking is None else ranking_tables(report.ranking),
        legs=[(LEGS.get(leg, leg), list(members)) for leg, members in groupby(tasks, key=lambda task: task.leg)],
        saved=saved_tables(found),
        has_subjects=report.summary.get("difference_subjects_low", pd.Series(dtype=float)).notna().any(),
        has_position=any(panel.method("position") for panel in found),
        has_external=any(panel.method("external") for panel in found),
        pretrainings=[_monitors(pretraining, i) for i, pretraining in enumerate(report.pretrainings)],
        pictures=[_picture(picture) for picture in report.pictures],
        maps=[draw_map(given) for given in report.maps],
        longest=max(report.durations.values(), default=0.0),
        summary_csv=_base64(report.summary.to_csv(index=False).encode()),
        results_csv=_base64(report.results.to_csv(index=False).encode()),
        colours=COLOURS,
        style=Markup(style),
        script=Markup(script),
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
    )


def _task(panel: Panel, made: list[Claim], every: list[list[Panel]], report: Report, index: int) -> TaskView:
    curves = svg(panel_figure(panel, report.results), f"task{index}", " ".join(one.sentence for one in made))
    same = [other for found in every for other in found if other.key == panel.key]
    tables = [(METRICS.get(other.metric, other.metric), score_table(other)) for other in same]
    versus = [] if report.comparisons is None else against_each(panel, report.comparisons)
    return TaskView(panel.title, panel.leg, made[0] if len(made) == 1 else None, Markup(curves), tables, versus)


def _monitors(pretraining: Pretraining, index: int) -> PretrainingView:
    drawn, collapsed = [], False
    for name, monitor in MONITORS.items():
        values = pretraining.metrics[name].dropna() if name in pretraining.metrics else pd.Series()
        if values.empty:
            continue
        course = f"{values.iloc[0]:.3g} → {values.iloc[-1]:.3g}".replace("-", "−")
        alt = f"{monitor.title} of {pretraining.title} over {len(values)} logged steps, {course}."
        drawing = svg(monitors_figure(pretraining.metrics, [name]), f"monitor{index}{name}", alt)
        drawn.append((monitor, Markup(drawing), course))
        collapsed |= monitor.floor is not None and values.iloc[-1] < monitor.floor
    return PretrainingView(pretraining.title, drawn, collapsed)


def _picture(picture: Picture) -> dict[str, Any]:
    if picture.png[:8] != b"\x89PNG\r\n\x1a\n":
        raise DataError(f"picture {picture.title}: is not a PNG; hand in the bytes of a PNG file")
    width, height = struct.unpack(">II", picture.png[16:24])
    return {
        "title": picture.title,
        "caption": picture.caption,
        "alt": picture.alt or picture.caption,
        "width": width,
        "height": height,
        "png": _base64(picture.png),
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
