"""The page that is shown around: counts of labels by site, and no label that could name a person."""

import re
from pathlib import Path

import pandas as pd

from toolkit.scans.audit.page import write_page
from toolkit.scans.manifest import COLUMNS


def page(tmp_path: Path, rows: list[tuple[str, str, str]]) -> str:
    """The page of scans given by subject, site and label."""
    manifest = (
        pd.DataFrame(
            [{"path": "p", "subject": who, "site": site, "label": label} for who, site, label in rows], columns=COLUMNS
        )
        .astype(object)
        .fillna("")
    )
    manifest[["spacing_mm", "shape"]] = "1x1x1", "9x9x9"
    nothing = pd.DataFrame(columns=["path", "reason", "kind", "warning"])
    write_page(tmp_path / "audit.html", manifest, nothing, nothing, [None] * len(rows))
    return (tmp_path / "audit.html").read_text()


def cells(html: str) -> list[list[str]]:
    """The table of labels, row by row."""
    table = html[html.index('aria-label="Labels"') :].partition("</table>")[0]
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]


def test_labels_are_counted_by_value_and_site(tmp_path: Path) -> None:
    rows = [("s1", "north", "tumour"), ("s1", "north", "tumour"), ("s2", "south", "tumour"), ("s3", "south", "none")]
    assert cells(page(tmp_path, [*rows, ("s4", "", "none"), ("s5", "south", "")])) == [
        ["Label", "Subjects", "Scans", "north", "south", "not said"],
        ["tumour", "2", "3", "2", "1", "0"],
        ["none", "2", "2", "0", "1", "1"],
    ]
    assert "Labels" not in page(tmp_path, [("s1", "north", "")])


def test_a_label_that_may_name_somebody_is_counted_and_not_named(tmp_path: Path) -> None:
    long = "Frau Mustermann, a report of many words about one person"
    rows = [(f"s{n}", "north", label) for n, label in enumerate(["1", "1", "MUSTERMANN", "1987", long, long])]
    html = page(tmp_path, rows)
    assert cells(html)[1:] == [["1", "2", "2", "2"], ["3 others", "4", "4", "4"]]
    assert not re.search("mustermann|1987", html, re.IGNORECASE)


def test_of_many_labels_and_sites_the_most_frequent_are_named(tmp_path: Path) -> None:
    rows = [(f"s{n}-{k}", f"site{n:02}", f"label{n:02}") for n in range(30) for k in range(2 + n)]
    table = cells(page(tmp_path, rows))
    assert len(table) == 1 + 20 + 1 and table[1][0] == "label29" and table[-1][0] == "10 others"
    assert table[0][3:] == [*(f"site{n}" for n in range(29, 21, -1)), "others"]
    assert sum(int(row[2]) for row in table[1:]) == len(rows)
