"""`fewlabel data audit`: what it says, and how it ends."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from toolkit.cards.pseudonyms import key_mark, pseudonym_key
from toolkit.cli import app
from toolkit.console import log
from toolkit.errors import DiskError
from toolkit.private import write_private
from toolkit.scans.audit.memory import Memory


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, folder: str = "in") -> Result:
    log.handlers.clear()  # each runner has an error stream of its own
    return CliRunner().invoke(app, ["data", "audit", folder, "--out", "private", *arguments])


def test_it_ends_with_0_where_all_is_well_and_with_3_where_something_was_refused(dicom, data_root: Path) -> None:
    dicom("a", AccessionNumber="ACC1")
    Path("labels.csv").write_text("accession,label\nACC1,1\nACC2,0\n")
    outcome = run("--link", "labels.csv", "--on", "accession")
    assert outcome.exit_code == 0, outcome.output
    for said in ("1 scans of 1 subjects: private/manifest.csv", "1 scans have one", "1 rows of the table, 0 scans"):
        assert said in outcome.output
    mark = key_mark(pseudonym_key(data_root))
    assert f",{mark}." in Path("private/manifest.csv").read_text()
    dicom("us", Modality="US", AccessionNumber="ACC2")
    outcome = run("--workers", "1")
    assert outcome.exit_code == 3
    assert "1 (wrong modality 1): private/refused.csv" in outcome.output
    assert run("--modality", "mr,us").exit_code == 0


def test_guessed_subjects_are_counted_with_the_remedy(nifti) -> None:
    for name in ("1234_T1.nii.gz", "1234_FLAIR.nii.gz"):
        nifti(name)
    said = " ".join(run().output.split())
    assert "2 subject guessed from the path: say who is who with --subject REGEX" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--on", "accesion"], 2, "--on: input should be 'accession'"),
        (["--prefer", "thin,best"], 2, "prefer"),
        (["--subject", "p[0-9]+"], 2, "has no group; put the subject's part in parentheses"),
        (["--subject", "(p"], 2, "is no regular expression"),
        (["--min-slices", "1"], 2, "--min-slices: "),
        (["--link", "gone.csv"], 1, "no such file: gone.csv"),
        (["--link", "label.csv"], 1, "no such file: label.csv; did you mean 'labels.csv'?"),
        (["--link", "labels.csv"], 1, "no row fits a scan by its subject; try --on accession or --on path"),
        (["--out", "/proc/nope"], 1, "/proc/nope: cannot be written (No such file or directory); give another --out"),
    ],
)
def test_mistakes_are_one_line(dicom, arguments: list[str], code: int, message: str) -> None:
    dicom("a")
    Path("labels.csv").write_text("subject,label\nFAKE-9,1\n")
    outcome = run(*arguments)
    assert outcome.exit_code == code
    assert message in outcome.output and "Traceback" not in outcome.output


def test_labels_that_fit_no_scan_are_an_error_and_are_listed(dicom) -> None:
    dicom("a")
    Path("labels.csv").write_text("subject,label\nFAKE-9,1\n")
    outcome = run("--link", "labels.csv")
    assert outcome.exit_code == 1 and "private/unmatched.csv" in outcome.output
    assert "labels,FAKE-9" in Path("private/unmatched.csv").read_text()


def test_another_cohort_in_the_same_folder_is_said_and_loses_nobody(dicom, nifti) -> None:
    dicom("a", PatientID="FAKE-1", AccessionNumber="ACC1")
    assert run().exit_code == 0
    first = Path("private/crosswalk.csv").read_text().splitlines()
    outcome = run()
    assert Path("private/crosswalk.csv").read_text().splitlines() == first and "--out held" not in outcome.output
    Path("in").rename("old")
    dicom("b", PatientID="FAKE-2")
    said = " ".join(run().stderr.split())
    assert "--out held the audit of this folder; 1 of its 1 subjects are not found now" in said
    Path("in").rename("middle")
    nifti("c/c.nii")
    Path("in").rename("new")
    outcome = run(folder="new")
    assert "--out held the audit of another folder; 1 of its 1 subjects" in " ".join(outcome.stderr.split())
    kept = Path("private/crosswalk.csv").read_text().splitlines()
    assert set(first) < set(kept) and len(set(kept)) == len(kept)
    assert sum(line.startswith("subject,") for line in kept) == 3
    Path("private/crosswalk.csv").write_text("something else\n")
    outcome = run(folder="new")
    assert outcome.exit_code == 1 and "no column 'kind'" in outcome.output
    assert Path("private/crosswalk.csv").read_text() == "something else\n"


def test_an_audit_that_finds_nothing_keeps_who_is_who(dicom) -> None:
    dicom("a")
    run()
    before = Path("private/crosswalk.csv").read_text()
    Path("in").rename("away")
    Path("in").mkdir()
    outcome = run()
    assert outcome.exit_code == 1 and "in: no file that looks like a scan" in outcome.output
    assert "refused.csv" not in outcome.output
    assert Path("private/crosswalk.csv").read_text() == before


def test_the_key_is_asked_for_before_anything_is_read(dicom, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom("a")
    monkeypatch.setenv("FEWLABEL_DATA", "/proc/x")
    outcome = run()
    assert outcome.exit_code == 1 and "set FEWLABEL_DATA to a folder of yours" in outcome.output
    assert not Path("private").exists()


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.sqlite")
    memory._connection.execute("PRAGMA max_page_count = 4")  # SQLite's own answer to a full disk
    with pytest.raises(
        DiskError, match=r"memory\.sqlite: cannot be written \(database or disk is full\); give another"
    ):
        memory.put("question", "x" * 100_000)
    memory.close()
    with pytest.raises(DiskError, match="cannot be written"):
        write_private(Path("/dev/full/x"), b"")


def test_the_help_says_where_the_key_lies() -> None:
    said = " ".join(CliRunner().invoke(app, ["data", "audit", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "$FEWLABEL_DATA/.key" in said and "share it with nobody" in said
