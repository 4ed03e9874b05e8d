"""`fewlabel data audit`: what it says, and how it ends."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from toolkit.cards.pseudonyms import key_mark, pseudonym_key
from toolkit.cli import app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "audit", "in", "--out", "private", *arguments])


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
        (["--on", "name"], 2, "link_on"),
        (["--prefer", "thin,best"], 2, "prefer"),
        (["--subject", "p[0-9]+"], 2, "has no group; put the subject's part in parentheses"),
        (["--subject", "(p"], 2, "is no regular expression"),
        (["--link", "gone.csv"], 1, "gone.csv: cannot be read as a table"),
    ],
)
def test_mistakes_are_one_line(dicom, arguments: list[str], code: int, message: str) -> None:
    dicom("a")
    outcome = run(*arguments)
    assert outcome.exit_code == code
    assert message in outcome.output and "Traceback" not in outcome.output


def test_the_help_says_where_the_key_lies() -> None:
    said = " ".join(CliRunner().invoke(app, ["data", "audit", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "$FEWLABEL_DATA/.key" in said and "share it with nobody" in said
