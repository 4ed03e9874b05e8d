import numpy as np
import pandas as pd
import pytest

from toolkit.errors import DataError
from toolkit.reports import EmbeddingMap
from toolkit.reports.embedding_map import MAX_POINTS, MAX_TEXT, SIZE, draw_map


def frame(number: int = 4) -> pd.DataFrame:
    x = np.linspace(-3, 5, number)
    return pd.DataFrame({"x": x, "y": x / 2, "label": np.arange(number) % 2, "text": "t"})


def drawn(points: pd.DataFrame):
    return draw_map(EmbeddingMap("title", points, "caption"))


def test_points_fill_the_square_with_y_up_and_one_scale() -> None:
    data = drawn(frame()).data
    assert data["x"][0] == 0.02 * SIZE and data["x"][-1] == 0.98 * SIZE
    assert data["y"][0] - data["y"][-1] == 0.48 * SIZE


def test_every_point_is_in_one_path() -> None:
    made = drawn(frame().assign(group=["a", "a", "b", "b"]))
    assert sum(dots.path.count("M") for dots in made.dots) == 4
    assert {(dots.label, dots.group) for dots in made.dots} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len({colour for _, colour in made.labels}) == 2


def test_many_points_are_thinned_and_long_texts_cut() -> None:
    made = drawn(frame(5 * MAX_POINTS).assign(text="x" * 1000))
    assert len(made.data["x"]) == MAX_POINTS
    assert {len(text) for text in made.data["text"]} == {MAX_TEXT}


def test_points_that_are_not_finite_are_left_out_and_equal_ones_drawn() -> None:
    assert len(drawn(frame().assign(x=[np.nan, 0.0, 1.0, np.inf])).data["x"]) == 2
    assert drawn(frame().assign(x=1.0, y=1.0)).data["x"] == [SIZE // 2] * 4


def test_a_map_without_column_or_points_is_refused() -> None:
    with pytest.raises(DataError, match="column text is missing"):
        drawn(frame().drop(columns="text"))
    with pytest.raises(DataError, match="no point has finite x and y"):
        drawn(frame().assign(x=np.nan))


def test_one_group_needs_no_legend() -> None:
    assert drawn(frame()).groups == []
    assert drawn(frame().assign(group="en")).groups == []
