import math

import pytest

from toolkit.reports.names import METHODS, count, decimal, method_label, panel_title, score, seconds


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.614, False, ".61"),
        (1.0, False, "1.00"),
        (-0.031, False, "−.03"),
        (0.14, True, "+.14"),
        (-0.001, True, ".00"),
    ],
)
def test_decimals_are_printed_as_in_papers(value: float, sign: bool, text: str) -> None:
    assert decimal(value, sign) == text


def test_unknown_numbers_are_a_dash_and_unknown_bounds_leave_the_mean() -> None:
    assert decimal(math.nan) == count(math.nan) == "–"
    assert score(0.5, math.nan, math.nan) == ".50"
    assert score(0.5, 0.4, 0.6) == ".50 [.40, .60]"


def test_label_counts_keep_a_decimal_only_where_it_matters() -> None:
    assert [count(value) for value in (2.43, 3.0, 12.6, 1234.0)] == ["2.4", "3", "13", "1,234"]


def test_methods_are_named_by_leg_and_pretraining() -> None:
    assert method_label("raw", "scans") == "block means"
    assert method_label("raw", "text") == "TF-IDF"
    assert method_label("ssl-probe", "text", "mlm+simcse") == "MLM + SimCSE probe"
    assert method_label("ssl-finetune", "scans") == "SSL fine-tuned"
    assert method_label("theirs", "scans") == "theirs"
    assert {name for name, method in METHODS.items() if method.role == "baseline"} == {
        "raw", "pca", "kmeans", "random", "scratch"
    }  # fmt: skip


def test_titles_name_the_language_or_the_leg() -> None:
    assert panel_title("text", "sentiment", "zh") == "Chinese · sentiment"
    assert panel_title("scans", "lobe_groups", "", "third_brain") == "Scans · lobe groups · third brain"
    assert panel_title("text", "sentiment", "tlh") == "tlh · sentiment"


def test_durations_are_for_people() -> None:
    assert [seconds(value) for value in (4.21, 42, 372.4, 3900)] == [
        "4.2 s",
        "42 s",
        "6 min 12 s",
        "1 h 05 min",
    ]
