import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from toolkit.reports import label_efficiency_figure, monitors_figure, png
from toolkit.reports.figures import panel_figure, spread
from toolkit.reports.panels import panels
from toolkit.reports.style import COLOURS, svg


def metrics() -> pd.DataFrame:
    step = np.arange(0, 200, 10)
    return pd.DataFrame({"step": step, "loss": 5 - step / 50, "embedding_std": 0.9, "lr": 0.1})


def test_the_readme_figure_is_a_small_png_with_a_panel_a_task(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    results, summary = tables
    figure = label_efficiency_figure(summary, results)
    assert len(figure.axes) == 5
    drawn = png(figure)
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) < 400_000


def test_equal_tables_give_equal_bytes(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    results, summary = tables
    panel = panels(summary)[0]
    assert svg(panel_figure(panel, results), "a", "alt") == svg(panel_figure(panel, results), "a", "alt")
    assert png(monitors_figure(metrics())) == png(monitors_figure(metrics()))


def test_an_svg_is_well_formed_and_takes_the_colours_of_the_page(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    drawn = svg(panel_figure(panels(tables[1])[0], tables[0]), "a", 'says "more" & <b>')
    root = ET.fromstring(drawn)
    assert root.get("aria-label") == 'says "more" & <b>'
    assert "var(--ssl)" in drawn
    assert not [colour for colour in COLOURS.values() if colour in drawn]
    assert "DejaVu" not in drawn


def test_two_drawings_share_no_id(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    panel = panels(tables[1])[0]
    ids = [
        {element.get("id") for element in ET.fromstring(svg(panel_figure(panel), name, "")).iter()} - {None}
        for name in ("a", "b")
    ]
    assert ids[0] and not ids[0] & ids[1]


def test_names_from_files_are_text_never_markup_or_mathematics(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    name = r"$\frac{<script>alert(1)</script>"
    results, summary = (table.replace({"task": {"lobes": name}, "method": {"kmeans": name}}) for table in tables)
    drawn = svg(label_efficiency_figure(summary, results), "a", name)
    assert "<script" not in drawn
    assert name in "".join(ET.fromstring(drawn).itertext())


@pytest.mark.parametrize("column", ["low", "difference_low", "labels_equal"])
def test_unknown_intervals_and_comparisons_are_left_out(tables: tuple[pd.DataFrame, pd.DataFrame], column: str) -> None:
    drawn = svg(label_efficiency_figure(tables[1].assign(**{column: np.nan})), "a", "")
    assert "nan" not in drawn.lower()


def test_the_users_matplotlib_settings_change_nothing(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    import matplotlib as mpl

    panel = panels(tables[1])[0]
    plain = svg(panel_figure(panel), "a", "")
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert svg(panel_figure(panel), "a", "") == plain


def test_labels_keep_their_distance_and_move_no_more_than_needed() -> None:
    placed = spread([0.0, 1.0, 1.5, 50.0], gap=10, low=0, high=100)
    assert np.diff(placed).min() >= 10 - 1e-9
    assert placed[-1] == 50
    assert spread([10.0, 40.0], gap=10, low=0, high=100).tolist() == [10, 40]
    assert spread([98.0, 99.0], gap=10, low=0, high=100).max() == 100
    assert len(spread([], gap=1, low=0, high=1)) == 0


def test_monitors_that_were_not_logged_are_not_drawn() -> None:
    assert len(monitors_figure(metrics()).axes) == 2
    assert "collapse below .10" in svg(monitors_figure(metrics(), ["embedding_std"]), "a", "")
