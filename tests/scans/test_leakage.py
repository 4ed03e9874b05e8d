"""One subject, one file and one picture are on one side of a split, and never in pretraining and test both."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.errors import DataError
from toolkit.scans.fingerprints import NUM_BITS, clusters
from toolkit.scans.leakage import manifest_seen, refuse_held_out, split_manifest, units_of
from toolkit.scans.manifest import COLUMNS, read_manifest
from toolkit.splits import record_seen


def prints(count: int) -> list[bytes]:
    """Fingerprints of strangers."""
    return [np.random.default_rng([number]).bytes(2 * NUM_BITS // 8) for number in range(count)]


def copy_of(fingerprint: bytes, start: int) -> bytes:
    """A near one: a sixth of the bits differ, which is a similarity of .87; two such copies of one are .5 alike."""
    out = np.frombuffer(fingerprint, np.uint8).copy()
    for half in (0, NUM_BITS // 8):
        out[half + start : half + start + 16] ^= 255
    return out.tobytes()


@pytest.fixture
def rows() -> pd.DataFrame:
    """60 subjects with two scans each at three sites; subjects 10, 20 and 30 hang together through near-duplicates."""
    numbers = np.repeat(np.arange(60), 2)
    own = prints(120)
    own[40] = copy_of(own[20], 0)  # subject 20's first scan shows what subject 10's does
    own[60] = copy_of(own[40], 32)  # subject 30's shows what subject 20's does, and is no copy of subject 10's
    table = pd.DataFrame({name: [""] * 120 for name in COLUMNS})
    table["subject"] = [f"sub{number:02}" for number in numbers]
    table["site"] = [("north", "south", "south", "east")[number % 4] for number in numbers]
    table["label"] = [("", "0", "1")[number % 3] for number in numbers]
    table["path"] = [f"Doe_Jane/{row}.nii.gz" for row in range(120)]
    table["content_hash"] = [f"{row:064x}" for row in range(120)]
    table.loc[3, "content_hash"] = table.loc[6, "content_hash"]  # subjects 1 and 3 have one file
    table["fingerprint"] = [own_print.hex() for own_print in own]
    return table


def test_units_are_joined_by_subject_file_and_chains_of_near_duplicates(rows: pd.DataFrame) -> None:
    fingerprints = rows["fingerprint"].tolist()
    assert clusters([fingerprints[20], fingerprints[60]]).tolist() == [0, 1]  # not near each other
    units = units_of(rows)
    assert len(set(units[[20, 21, 40, 41, 60, 61]])) == 1
    assert len(set(units[[2, 3, 6, 7]])) == 1
    assert len(set(units)) == 60 - 2 - 1


def test_a_study_is_one_unit_whatever_its_subjects(rows: pd.DataFrame) -> None:
    rows.loc[[80, 82], "study"] = "study7"  # subjects 40 and 41
    units = units_of(rows)
    assert len(set(units[[80, 81, 82, 83]])) == 1
    assert len(set(units)) == 60 - 2 - 1 - 1


@pytest.mark.parametrize("seed", range(20))
def test_no_unit_is_parted_and_strata_are_kept(rows: pd.DataFrame, seed: int) -> None:
    train, test, units = split_manifest(rows, share=0.25, seed=seed)
    assert sorted([*train, *test]) == list(range(120))
    assert not set(units[train]) & set(units[test])
    assert not set(rows["subject"][train]) & set(rows["subject"][test])
    assert not set(rows["content_hash"][train]) & set(rows["content_hash"][test])
    assert len({20 in test, 40 in test, 60 in test}) == 1
    for column in ("site", "label"):
        for value, part in rows.groupby(column):
            subjects = part["subject"].nunique()
            tested = rows.loc[test].query(f"{column} == @value")["subject"].nunique()
            assert abs(tested - 0.25 * subjects) <= 2.6, (column, value)  # a unit of three subjects is one draw


def written(rows: pd.DataFrame, path: Path) -> Path:
    rows.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("row", "values", "message"),
    [
        (0, {}, r"1 test subject\(s\) .*\(sub00\)"),
        (0, {"subject": "new", "fingerprint": ""}, r"as files \(row 1: new\)"),
        (0, {"subject": "new", "content_hash": "f" * 64}, r"as near-duplicates \(row 1: new\)"),
    ],
)
def test_held_out_scans_are_refused_by_each_reason(
    rows: pd.DataFrame, tmp_path: Path, row: int, values: dict[str, str], message: str
) -> None:
    test = rows.loc[[row]].assign(**values)
    path = written(test, tmp_path / "test.csv")
    with pytest.raises(DataError, match=message) as caught:
        refuse_held_out(manifest_seen(rows), [path])
    assert "Doe_Jane" not in str(caught.value)
    refuse_held_out(manifest_seen(rows), [path], allow=True)
    stranger = test.assign(subject="new", content_hash="f" * 64, fingerprint=prints(200)[-1].hex())
    refuse_held_out(manifest_seen(rows), [written(stranger, tmp_path / "stranger.csv")])
    with pytest.raises(DataError, match=r"^\S*nowhere.csv: cannot be read"):  # named once
        refuse_held_out(manifest_seen(rows), [tmp_path / "nowhere.csv"])


def test_a_start_from_an_encoder_that_saw_the_test_is_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    """By file, subject and likeness, as the pretraining itself; and one that does not say what it saw."""
    train, test = rows.loc[8:], manifest_seen(rows.loc[[0]])
    path = written(rows.loc[[0]], tmp_path / "test.csv")
    refuse_held_out(manifest_seen(train), [path])
    for held_out, where in (([test], "^init.path: "), ([path], r"test\.csv: init\.path: "), ([], "^init.path: ")):
        with pytest.raises(DataError, match=f"{where}.*no pretrained_on.json"):
            refuse_held_out(manifest_seen(train), held_out, before=tmp_path)
        refuse_held_out(manifest_seen(train), held_out, before=tmp_path, allow=True)
    record_seen(tmp_path, manifest_seen(rows.loc[[0]].assign(subject="new", content_hash="")))
    for held_out, where in (([test], "^init.path: "), ([path], r"test\.csv: init\.path: ")):
        with pytest.raises(DataError, match=rf"{where}.*as near-duplicates \(row 1: sub00\)"):
            refuse_held_out(manifest_seen(train), held_out, before=tmp_path)
    refuse_held_out(manifest_seen(train), [], before=tmp_path)
    record_seen(tmp_path, manifest_seen(train))
    refuse_held_out(manifest_seen(train), [test, path], before=tmp_path)


def test_a_manifest_of_before_fingerprints_is_read(rows: pd.DataFrame, tmp_path: Path) -> None:
    old = read_manifest(written(rows.drop(columns=["fingerprint", "session"]), tmp_path / "old.csv"))
    assert old["fingerprint"].tolist() == old["session"].tolist() == [""] * 120
    assert len(set(units_of(old))) == 59
    with pytest.raises(DataError, match=r"no column 'subject'; .*"):
        read_manifest(written(rows.drop(columns="subject"), tmp_path / "none.csv"))
    with pytest.raises(DataError, match="lists no scan"):
        read_manifest(written(rows[:0], tmp_path / "empty.csv"))
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "gone.csv")


def test_the_command_writes_two_private_manifests_and_says_what_it_did(rows: pd.DataFrame, tmp_path: Path) -> None:
    manifest = written(rows, tmp_path / "manifest.csv")
    arguments = ["data", "split", str(manifest), "--out", str(tmp_path / "out"), "--test-share", "0.2", "--seed", "3"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    train, test = (read_manifest(tmp_path / "out" / f"{side}.csv") for side in ("train", "test"))
    assert sorted([*train["path"], *test["path"]]) == sorted(rows["path"])
    assert not set(train["subject"]) & set(test["subject"])
    assert list(train.columns) == COLUMNS
    assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "out/test.csv").st_mode & 0o777 == 0o600
    assert "sub10, sub20, sub30" in done.output and "sub01, sub03" in done.output
    assert "Doe_Jane" not in done.output
    counts = [line.split() for line in done.output.splitlines() if line.split()[:1] == ["all"]]
    assert counts == [
        ["all", str(train["subject"].nunique()), str(test["subject"].nunique()), *map(str, (len(train), len(test)))]
    ]
    refuse_held_out(manifest_seen(train), [tmp_path / "out" / "test.csv"])
    again = CliRunner().invoke(app, [*arguments[:4], str(tmp_path / "again"), *arguments[5:]])
    assert again.exit_code == 0
    assert (tmp_path / "again/test.csv").read_bytes() == (tmp_path / "out/test.csv").read_bytes()


def test_the_command_leaves_a_folder_of_something_else_alone(rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    arguments = ["data", "split", str(written(rows, tmp_path / "manifest.csv")), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and "give a new or empty folder" in done.stderr
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--test-share", "1.5"], "above 0 and below 1"), (["--stratify", "sitee"], "no column 'sitee'")],
)
def test_the_command_refuses_what_cannot_be(
    rows: pd.DataFrame, tmp_path: Path, options: list[str], message: str
) -> None:
    manifest = written(rows, tmp_path / "manifest.csv")
    done = CliRunner().invoke(app, ["data", "split", str(manifest), "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def small(tmp_path: Path, labels: str, sites: str) -> list[str]:
    """The arguments that part people, each with a label and a site of one letter."""
    table = pd.DataFrame(
        {"path": [f"{n}.nii" for n in range(len(labels))], "subject": [f"s{n}" for n in range(len(labels))]}
    )
    table = table.assign(label=list(labels), site=list(sites), content_hash=[f"h{n}" for n in range(len(labels))])
    manifest = written(table.reindex(columns=COLUMNS, fill_value=""), tmp_path / "manifest.csv")
    return ["data", "split", str(manifest), "--out", str(tmp_path / "out")]


def test_what_is_on_one_side_alone_is_warned_of(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, small(tmp_path, "aaaaabbbbb", "xxxxxxxxyz"))
    assert done.exit_code == 0, done.output
    said = [line for line in done.output.splitlines() if line.startswith("warning")]
    assert [line.split(None, 1)[1] for line in said] == [
        "site y: no test subject, of 1",
        "site z: no test subject, of 1",
    ]
    unparted = CliRunner().invoke(app, [*small(tmp_path, "aaaaabbbbb", "xxxxxxxxxx"), "--stratify", "label"])
    assert "no test subject" not in unparted.output


def test_a_side_with_one_label_of_several_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, small(tmp_path, "aaaaaaaaab", "xxxxxxxxxx"))
    assert done.exit_code == 1
    assert "the test side would have the label 'a' alone, of 2" in done.stderr and "--test-share" in done.stderr
    assert not (tmp_path / "out").exists()
    unlabelled = CliRunner().invoke(app, [*small(tmp_path, "aaaaaaaaab", "xxxxxxxxxx"), "--stratify", "site"])
    assert unlabelled.exit_code == 0 and "label b: no test subject, of 1" in unlabelled.output
