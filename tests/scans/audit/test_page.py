"""The page that is shown around: counts by value, none of few persons, and no label that could name one."""

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd

from toolkit.scans.audit.counts import hidden_counts, short_names, studies_a_subject
from toolkit.scans.audit.look import look
from toolkit.scans.audit.montage import montage
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


def cells(html: str, title: str = "Label") -> list[list[str]]:
    """A table of the page, row by row."""
    table = html[html.index(f'aria-label="{title}"') :].partition("</table>")[0]
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]


def people(*groups: tuple[int, str, str]) -> list[tuple[str, str, str]]:
    """Subjects of their own, so many with this site and label."""
    return [
        (f"{group}-{person}", site, label)
        for group, (count, site, label) in enumerate(groups)
        for person in range(count)
    ]


def test_labels_are_counted_by_value_and_site(tmp_path: Path) -> None:
    rows = people(
        (6, "north", "tumour"), (5, "south", "tumour"), (7, "south", "none"), (9, "", "none"), (2, "south", "")
    )
    html = page(tmp_path, [*rows, rows[0]])  # a second scan of one of them
    assert cells(html) == [
        ["Label", "Subjects", "Scans", "south", "not said", "north"],
        ["none", "16", "16", "7", "9", "0"],
        ["tumour", "11", "12", "5", "0", "6"],
    ]
    assert cells(html, "Site")[1:] == [["south", "14", "14"], ["not said", "9", "9"], ["north", "6", "7"]]
    assert "<dt>labelled scans</dt><dd>28</dd>" in html
    assert 'aria-label="Label"' not in page(tmp_path, [("s1", "north", "")])


def test_a_label_that_may_name_somebody_is_counted_and_not_named(tmp_path: Path) -> None:
    long = "Frau Mustermann, a report of many words about one person"
    rows = people(
        *[(1, "north", label) for label in ("1", "MUSTERMANN", "1987", "x")], (9, "north", "1"), (2, "north", long)
    )
    html = page(tmp_path, rows)
    assert cells(html)[1:] == [["1", "10", "10", "10"], ["4 others", "5", "5", "5"]]
    assert not re.search("mustermann|1987", html, re.IGNORECASE)


def test_of_many_values_the_most_frequent_are_named(tmp_path: Path) -> None:
    rows = people(*[(5 + n, f"site{n:02}", f"label{n:02}") for n in range(30)])
    html = page(tmp_path, rows)
    table = cells(html)
    assert len(table) == 1 + 20 + 1 and table[1][0] == "label29" and table[-1][0] == "10 others"
    assert table[0][3:] == [*(f"site{n}" for n in range(29, 21, -1)), "22 others"]
    assert sum(int(row[2]) for row in table[1:]) == len(rows)
    sites = cells(html, "Site")
    assert len(sites) == 1 + 20 + 1 and sites[-1] == ["10 others", str(sum(range(5, 15))), str(sum(range(5, 15)))]


def test_no_table_counts_fewer_than_five_persons(tmp_path: Path) -> None:
    rows = people((20, "north", "none"), (3, "north", "tumour"), (9, "south", "none"), (8, "south", "tumour"))
    html = page(tmp_path, [*rows, *[rows[20]] * 7])  # many scans make no more persons
    # The 3 would follow from the 23 of the site and the 20 beside it, from the 11 of the label and the 8 below it.
    assert cells(html)[1:] == [["none", "29", "29", "–", "–"], ["tumour", "11", "18", "–", "–"]]
    assert cells(html, "Site")[1:] == [["north", "23", "30"], ["south", "17", "17"]]
    html = page(tmp_path, people((20, "north", "none"), (4, "south", "tumour")))
    assert cells(html, "Site")[1:] == [["north", "–", "–"], ["south", "–", "–"]]
    assert "<dt>labelled scans</dt><dd>24</dd>" in html
    html = page(tmp_path, people((20, "north", ""), (4, "south", "tumour")))
    assert "<dt>labelled scans</dt><dd>–</dd>" in html
    assert "Studies a subject" not in html  # nothing is left of it


def test_no_hidden_count_follows_from_the_others() -> None:
    """Where a row or column hides something it hides two counts, of five persons, or all that it has."""
    rng = np.random.default_rng([3])
    for _ in range(200):
        persons = rng.integers(0, 12, rng.integers(1, 5, 2))
        hidden = hidden_counts(persons)
        assert hidden[(persons > 0) & (persons < 5)].all() and not hidden[persons == 0].any()
        for counts, mark in [*zip(persons, hidden, strict=True), *zip(persons.T, hidden.T, strict=True)]:
            shown = counts[~mark & (counts > 0)]
            assert not mark.any() or not shown.size or (mark.sum() > 1 and counts[mark].sum() >= 5)


def test_a_tail_of_single_persons_does_not_follow_from_their_number() -> None:
    hidden = hidden_counts(np.array([[100], [40], [1], [1], [1], [1], [1]]))[:, 0]
    assert hidden.tolist() == [False, True, True, True, True, True, True]  # five ones alone would sum to five


def test_a_hidden_count_does_not_follow_from_several_rows_and_columns() -> None:
    """The 2 is rows 1 and 2 less columns 1 and 2."""
    persons = np.array([[3, 4, 20, 20], [3, 3, 2, 20], [20, 20, 4, 3], [20, 20, 3, 3]])
    hidden = hidden_counts(persons)
    places = [tuple(place) for place in np.argwhere(hidden)]
    sums = np.array([[place[axis] == n for place in places] for axis in (0, 1) for n in range(4)], float)
    for number in range(len(places)):  # another table with the same sums has another count there
        alone = np.eye(len(places))[number]
        assert np.linalg.matrix_rank(np.vstack([sums, alone])) > np.linalg.matrix_rank(sums), places[number]


def test_bars_of_few_persons_are_not_drawn() -> None:
    studies = [(f"s{n}", f"{n}-{k}") for n in range(30) for k in range(1 if n < 13 else 2 if n < 28 else 9)]
    manifest = pd.DataFrame(studies, columns=["subject", "study"])
    assert studies_a_subject(manifest).to_dict() == {2: 15}  # the 13 would give the two away


def test_sites_have_short_names_that_tell_them_apart() -> None:
    names = ["0a1b2c3d.00112233445566ff", "0a1b2c3d.0011223aaaaaaaaa", "0a1b2c3d.ffffffffffffffff", "north", ""]
    expected = ["00112233", "0011223a", "ffffffff", "north", ""]
    assert list(short_names(names).values()) == expected
    assert short_names(names[1:])[names[1]] == "001122"


def test_a_site_has_one_name_on_the_page(tmp_path: Path) -> None:
    site, other = "0a1b2c3d.00112233445566ff", "0a1b2c3d.0011223aaaaaaaaa"
    html = page(tmp_path, people((9, site, "none"), (8, other, "")))
    assert cells(html, "Site")[1:] == [["00112233", "9", "9"], ["0011223a", "8", "8"]]
    assert cells(html)[0][3:] == ["00112233"]  # though it is the only one with labels


def test_the_montage_shows_a_scan_of_each_subject_first_with_its_left_on_the_left(tmp_path: Path) -> None:
    thumbnails = []
    for number in range(3):
        array = np.zeros((40, 60, 9), np.float32)
        array[: 10 * (number + 1), :30] = 100  # low i and j: the person's left and back
        nib.save(nib.Nifti1Image(array, np.diag([2.0, 1.0, 3.0, 1.0])), tmp_path / f"{number}.nii")
        (found,) = look([([str(tmp_path / f"{number}.nii")], "a scan")])
        thumbnails.append(found["thumbnail"])
    manifest = pd.DataFrame({"subject": ["a", "a", "b"]})
    png, count, width, height = montage(manifest, thumbnails)
    sheet = matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))[..., 0]
    assert (count, width, height) == (3, 3 * 130 - 2, 128) and sheet.shape == (128, 388)
    for place, share in enumerate((0.25, 0.75, 0.5)):  # a, b, then a's second; 80 mm across and 60 from back to front
        picture = sheet[:, 130 * place : 130 * place + 128]
        bright = np.argwhere(picture > 0.5)
        np.testing.assert_allclose(bright.min(axis=0), [64, 0], atol=1)
        np.testing.assert_allclose(bright.max(axis=0), [111, 128 * share - 1], atol=1)
    assert montage(manifest, [None] * 3) is None
    assert montage(manifest, [None, *thumbnails[1:]])[1] == 2
