"""What pretraining's monitors showed: loss, and what tells of collapse where the loss cannot."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolkit.reports.names import decimal
from toolkit.reports.style import COLOURS, drawing


@dataclass(frozen=True)
class Monitor:
    """How a monitor is drawn and explained. Below `floor`, that of training's alarms, embeddings are collapsed."""

    title: str
    explanation: str
    floor: float | None = None
    from_zero: bool = False


MONITORS = {
    "loss": Monitor("Loss", "What pretraining minimises. It cannot show collapse by itself."),
    "embedding_std": Monitor(
        "Embedding spread",
        "Standard deviation of the normalised embeddings times the root of their width: 1 is spread evenly "
        "over the sphere, 0 is one point for all.",
        floor=0.1,
        from_zero=True,
    ),
    "effective_rank": Monitor(
        "Effective rank",
        "How many directions the embeddings really use (Roy & Vetterli 2007).",
        floor=3.0,
        from_zero=True,
    ),
    "alignment": Monitor(
        "Alignment",
        "Squared distance of two views of one sample; lower is closer (Wang & Isola 2020).",
        from_zero=True,
    ),
    "uniformity": Monitor("Uniformity", "Lower is more evenly spread; 0 is collapse (Wang & Isola 2020)."),
    "teacher_entropy": Monitor(
        "Teacher entropy",
        "How undecided the teacher is on a sample: at 1 it spreads each sample over all outputs and teaches nothing.",
        from_zero=True,
    ),
    "teacher_mean_entropy": Monitor(
        "Outputs in use",
        "Entropy of the teacher's outputs over all samples: 1 uses all alike, 0 gives every sample the same.",
        from_zero=True,
    ),
}


def monitors_figure(metrics: pd.DataFrame, names: Sequence[str] | None = None) -> Figure:
    """One small drawing beside another for each monitor of a pretraining.

    Args:
        metrics: The rows of `metrics.jsonl`: `step` and one column a monitor; NaN where one was not logged.
        names: Which columns to draw; by default all that `MONITORS` knows and `metrics` has.
    """
    names = [name for name in MONITORS if name in metrics] if names is None else names
    with drawing():
        figure = Figure(figsize=(3.6 * len(names), 2.3))
        for i, name in enumerate(names):
            axes = figure.add_axes(((i + 0.13) / len(names), 0.19, 0.83 / len(names), 0.76))
            _draw_monitor(axes, metrics[["step", name]].dropna(), MONITORS.get(name))
    return figure


def _draw_monitor(axes: Axes, rows: pd.DataFrame, monitor: Monitor | None) -> None:
    step, value = rows["step"].to_numpy(float), rows.iloc[:, 1].to_numpy(float)
    window = max(1, len(value) // 20)
    smooth = pd.Series(value).rolling(window, center=True, min_periods=1).median()
    axes.plot(step, value, color=COLOURS["line"], linewidth=0.6, alpha=0.7)
    axes.plot(step, smooth, color=COLOURS["ssl"], linewidth=1.8)
    if monitor and monitor.floor is not None:
        axes.axhspan(0, monitor.floor, color=COLOURS["warn"], alpha=0.1, linewidth=0)
        axes.axhline(monitor.floor, color=COLOURS["warn"], linewidth=0.9, linestyle=(0, (4, 2)))
        text, place = f"collapse below {decimal(monitor.floor)}", axes.get_yaxis_transform()
        axes.text(1, monitor.floor, text, transform=place, ha="right", va="bottom", color=COLOURS["warn"])
    if monitor and monitor.from_zero:
        axes.set_ylim(bottom=0, top=1.08 * max(value.max(initial=0.0), monitor.floor or 0.0) or 1)
    axes.margins(x=0.01)
    axes.locator_params(nbins=5)
    axes.set_xlabel("step")
