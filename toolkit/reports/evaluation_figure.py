"""Values of an evaluation by language, a dot a method."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from toolkit.reports.style import COLOURS, drawing

WIDTH_IN = 7.6
ROW_IN = 0.2
ENCODER_COLOURS = ("ssl", "ssl2", "ink")
BASELINE_MARKERS = ("s", "D", "^", "v", "P", "X")


def evaluation_figure(
    part: pd.DataFrame, method_label: Callable[[str, str], str], language_label: Callable[[str], str]
) -> Figure:
    """One task in one metric: languages from top to bottom, the mean last; bars are intervals.

    Args:
        part: The rows of `evaluation.csv` of that task and metric.
        method_label: A method's name for people.
        language_label: A language's.
    """
    ordered = sorted(dict.fromkeys(part["language"]), key=lambda language: (language == "mean", language))
    languages = ordered[::-1]  # the axis runs upwards
    methods = list(dict.fromkeys(zip(part["method"], part["pretraining"], strict=True)))
    styles = _styles(methods)
    spread = 0.62 / max(1, len(methods))
    height = max(1.3, ROW_IN * len(languages) * (1 + 0.5 * len(methods)) + 0.45)
    with drawing():
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        axes = figure.add_subplot()
        for number, names in enumerate(methods):
            own = part[(part["method"] == names[0]) & (part["pretraining"] == names[1])].set_index("language")
            shown = [language for language in languages if language in own.index]
            places = [languages.index(language) + (number - (len(methods) - 1) / 2) * -spread for language in shown]
            values = own.loc[shown, "value"]
            errors = [(values - own.loc[shown, "low"]).fillna(0), (own.loc[shown, "high"] - values).fillna(0)]
            marker, colour = styles[names]
            axes.errorbar(
                values, places, xerr=errors, fmt=marker, color=COLOURS[colour], markersize=4, elinewidth=1.1,
                label=method_label(*names),
            )  # fmt: skip
        axes.set_yticks(range(len(languages)), [language_label(language) for language in languages])
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-0.6, len(languages) - 0.4)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _styles(methods: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    encoders = [names for names in methods if names[0] == "encoder"]
    others = [names for names in methods if names[0] != "encoder"]
    return {
        **{names: ("o", ENCODER_COLOURS[i % len(ENCODER_COLOURS)]) for i, names in enumerate(encoders)},
        **{names: (BASELINE_MARKERS[i % len(BASELINE_MARKERS)], "line") for i, names in enumerate(others)},
    }
