"""Score against labels a class: the figure of the page and of the README."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from toolkit.reports.names import METRICS, count, decimal
from toolkit.reports.panels import Panel, Series, panels, rows_of
from toolkit.reports.style import COLOURS, FONT_PT, drawing

PANEL_SIZE_IN = (4.9, 3.2)
LABEL_GAP_PT = FONT_PT + 2.2
RIGHT_OF_LABELS = 0.695  # the plot's right edge as a share of the panel; the labels of the lines stand beyond it
DASHES = {"raw": (0, ()), "pca": (0, (5, 1.6)), "kmeans": (0, (2.2, 1.4)), "random": (0, (5, 1.4, 1.2, 1.4))}
LEFT_OF_AXIS = -0.13  # where titles begin, in axes widths: at the numbers of the vertical axis
MAX_LABEL = 16  # characters that fit beside the plot; the tables have the full names
SHORT = {"ssl-probe": "SSL probe", "ssl-finetune": "SSL fine-tuned"}
MARKERS = {"scratch": "D", "ssl-finetune": "D"}


def label_efficiency_figure(
    summary: pd.DataFrame, results: pd.DataFrame | None = None, metric: str = "accuracy", num_columns: int = 3
) -> Figure:
    """All tasks in one figure, one panel each: score against labels a class, on a logarithmic axis.

    Args:
        summary: `summary.csv`.
        results: `results.csv`; if given, each draw of the pretrained probe is a dot behind its line.
        metric: Which metric.
        num_columns: Panels side by side.

    Raises:
        DataError: If the summary lacks a column or the metric.
    """
    found = panels(summary, metric)
    num_columns = min(num_columns, len(found))
    num_rows = math.ceil(len(found) / num_columns)
    width, height = PANEL_SIZE_IN
    with drawing():
        figure = Figure(figsize=(width * num_columns, (height + 0.2) * num_rows))
        for index, panel in enumerate(found):
            row, column = divmod(index, num_columns)
            left, bottom = column / num_columns, 1 - (row + 1) / num_rows
            plot = (
                0.1 / num_columns,
                0.15 / num_rows,
                (RIGHT_OF_LABELS - 0.1) / num_columns,
                0.72 / num_rows,
            )
            axes = figure.add_axes((left + plot[0], bottom + plot[1], plot[2], plot[3]))
            draw_panel(axes, panel, results)
            axes.set_title(panel.title, x=LEFT_OF_AXIS, pad=20)
    return figure


def panel_figure(panel: Panel, results: pd.DataFrame | None = None) -> Figure:
    """One task, sized for one column of the page; it has no title, the page gives one."""
    width, height = PANEL_SIZE_IN
    names_in = (len(panel.series) + 1) * LABEL_GAP_PT / 72 / 0.79  # many pretrainings, many names at the lines' ends
    with drawing():
        figure = Figure(figsize=(width, max(height, names_in)))
        draw_panel(figure.add_axes((0.085, 0.14, RIGHT_OF_LABELS - 0.085, 0.79)), panel, results)
    return figure


def draw_panel(axes: Axes, panel: Panel, results: pd.DataFrame | None = None) -> None:
    """Draws one task on `axes`: bands are the intervals, each line carries its name at its end."""
    labels = []
    alone = len(panel.probes) == 1  # several have one colour, and no bands, dots and arrows to draw over each other
    rival = panel.best_baseline(panel.middle_budget) if panel.middle_budget else None
    for order, series in enumerate(reversed(panel.series)):  # pretrained methods last, on top
        colour = _colour(series, rival)
        height = _draw_series(axes, series, colour, zorder=2 + order / 10, band=alone)
        strong = series.role == "ssl" or series is rival
        labels.append((height, series, colour, "bold" if strong else "normal"))
    if results is not None and alone:
        _draw_draws(axes, panel, results)
    _scale(axes, panel)
    if alone:
        _draw_labels_saved(axes, panel)
    _label_ends(axes, labels, alone)


def _colour(series: Series, rival: Series | None) -> str:
    if series.role == "ssl":
        return COLOURS["ssl" if series.method == "ssl-probe" else "ssl2"]
    return COLOURS["rival"] if series is rival or series.role == "reference" else COLOURS["line"]


def _draw_series(axes: Axes, series: Series, colour: str, zorder: float, band: bool) -> float:
    """Draws one series and gives the height of its right end."""
    if series.constant is not None:
        axes.axhline(series.constant.mean, color=colour, linewidth=0.9, linestyle=(0, (1, 2)), zorder=zorder)
        return series.constant.mean
    x = np.array(list(series.points), dtype=float)
    mean, low, high = np.array([(p.mean, p.low, p.high) for p in series.points.values()]).T
    known = np.isfinite(low) & np.isfinite(high)
    marker = MARKERS.get(series.method, "o")
    if len(x) == 1:
        axes.vlines(x[known], low[known], high[known], color=colour, linewidth=1.1, zorder=zorder)
        axes.plot(x, mean, marker, color=colour, markersize=5, markerfacecolor=_fill(series, colour), zorder=zorder)
        return float(mean[-1])
    strong = series.role == "ssl"
    if band and series.role != "reference":
        axes.fill_between(
            x, low, high, where=known, color=colour, alpha=0.2 if strong else 0.09, linewidth=0, zorder=1.5
        )
    style = (0, (1, 1.6)) if series.role == "reference" else DASHES.get(series.method, (0, ()))
    axes.plot(x, mean, color=colour, linewidth=2.3 if strong else 1.15, linestyle=style, zorder=zorder)
    if strong:
        axes.plot(x, mean, marker, color=colour, markersize=5, zorder=zorder)
    return float(mean[-1])


def _fill(series: Series, colour: str) -> str:
    return colour if series.role == "ssl" else "none"


def _draw_draws(axes: Axes, panel: Panel, results: pd.DataFrame) -> None:
    """One faint dot for each draw of the pretrained probe: what one person with so many labels may meet."""
    probe = panel.method("ssl-probe")
    if probe is None:
        return
    values = rows_of(results, panel, probe).groupby(["budget", "draw"], as_index=False)["value"].mean()
    dots = {"color": COLOURS["ssl"], "alpha": 0.28, "markersize": 2.2, "markeredgewidth": 0, "zorder": 1.8}
    axes.plot(values["budget"].astype(float), values["value"], "o", **dots)


def _draw_labels_saved(axes: Axes, panel: Panel) -> None:
    """From the probe at the middle budget straight across to the best baseline at the same score."""
    probe = panel.method("ssl-probe")
    row = probe.at(panel.middle_budget) if probe and panel.middle_budget else None
    if row is None or not row.saves_labels(panel.middle_budget):
        return
    end = min(row.labels_equal, panel.budgets[-1])
    beyond = math.isinf(row.labels_equal)
    at_right = math.log(end / panel.budgets[0]) > 0.75 * math.log(panel.budgets[-1] / panel.budgets[0])
    arrow = {"arrowstyle": "->", "color": COLOURS["ink"], "linewidth": 0.9, "shrinkA": 4, "shrinkB": 0}
    axes.annotate("", (end, row.mean), (panel.middle_budget, row.mean), arrowprops=arrow, zorder=5)
    axes.annotate(
        f"> {count(end)} labels" if beyond else f"{count(end)} labels",
        (end, row.mean),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right" if at_right else "center",
        va="top",
        color=COLOURS["ink"],
        zorder=6,
        bbox={"facecolor": COLOURS["page"], "alpha": 0.8, "linewidth": 0, "pad": 0.8},
    )


def _scale(axes: Axes, panel: Panel) -> None:
    budgets = panel.budgets or [1]
    axes.set_xscale("log")
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.minorticks_off()
    axes.set_xlim(budgets[0] * 0.88, budgets[-1] * (1.04 if len(budgets) > 1 else 1.2))
    axes.yaxis.set_major_formatter(lambda value, _: decimal(value))
    axes.margins(y=0.06)
    axes.set_xlabel("labels a class")
    metric = METRICS.get(panel.metric, panel.metric)
    axes.text(LEFT_OF_AXIS, 1.02, metric, transform=axes.transAxes, va="bottom", color=COLOURS["rival"])


def _label_ends(axes: Axes, labels: Sequence[tuple[float, Series, str, str]], alone: bool) -> None:
    """Names each line at its right end, moved apart as little as keeps the names readable.

    A method of one budget has no line to lead from: its mark is repeated before its name.
    """
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    height_pt = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
    wanted = sorted(((value - bottom) / (top - bottom) * height_pt, i) for i, (value, *_) in enumerate(labels))
    placed = spread([at for at, _ in wanted], LABEL_GAP_PT, 0, height_pt)
    for (at, i), to in zip(wanted, placed, strict=True):
        _, series, colour, weight = labels[i]
        beside = {"transform": axes.transAxes, "clip_on": False, "color": colour}
        if len(series.points) == 1:
            marker = MARKERS.get(series.method, "o")
            axes.plot(1.035, to / height_pt, marker, markersize=4.5, markerfacecolor=_fill(series, colour), **beside)
        else:
            axes.plot((1.008, 1.045), (at / height_pt, to / height_pt), linewidth=0.6, **beside)
        text = series.label if alone else series.label.removesuffix(" probe")
        if len(text) > MAX_LABEL:  # a public model's name is its user's choice
            text = SHORT.get(series.method, text[: MAX_LABEL - 1] + "…")
        ink = COLOURS["muted"] if colour == COLOURS["line"] else colour
        axes.text(1.06, to / height_pt, text, transform=axes.transAxes, va="center", color=ink, weight=weight)


def spread(values: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Moves ascending `values` apart until neighbours are `gap` from each other, by the least squares.

    With z_i = value_i - i * gap, z must never fall: isotonic regression, clipped to the range.
    """
    if not len(values):
        return np.zeros(0)
    steps = gap * np.arange(len(values))
    moved = isotonic_regression(np.asarray(values, float) - steps).x
    return np.clip(moved, low, max(low, high - steps[-1])) + steps
