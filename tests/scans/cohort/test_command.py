"""`fewlabel data synthesize`."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from toolkit.cli import app
from toolkit.console import log

SMALL = ["--brain", "parametric", "--spacing", "8", "--format", "nifti"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log, "handlers", [])  # each runner has an error stream of its own


def synthesize(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "synthesize", *arguments])


def test_flags_and_keys_make_a_cohort_whose_card_is_valid() -> None:
    outcome = synthesize(
        "--subjects", "3", "--out", "made", "--sites", "1", "--lesion", "dark_sharp,dark_diffuse", *SMALL,
        "missing=0", "sequences=[FLAIR]", "lesion.prevalence=1",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    assert "3, 3 with a lesion, at 1 sites" in outcome.output
    labels = pd.read_csv("made/labels.csv")
    assert len(labels) == 3
    assert set(labels["kind"]) <= {"dark_sharp", "dark_diffuse"}
    assert labels["path"].str.endswith("_FLAIR.nii.gz").all()
    assert CliRunner().invoke(app, ["validate", "made/card.md"]).exit_code == 0


def test_none_means_no_lesion() -> None:
    assert synthesize("--subjects", "2", "--lesion", "none", *SMALL).exit_code == 0
    assert set(pd.read_csv("cohort/labels.csv")["label"]) == {"healthy"}
    assert not list(Path("cohort/masks").iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--lesion", "round"], 2, "lesion.kinds"),
        (["--sites", "3", "--shortcut", "0.9"], 2, "at most 0.71"),
        (["--format", "bmp"], 2, "format: input should be 'dicom' or 'nifti'"),
        (["--out", "full"], 1, "full: is not empty and holds no cohort"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], code: int, line: str) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    outcome = synthesize("--subjects", "1", *SMALL, *arguments)
    assert outcome.exit_code == code
    assert line in outcome.output
    assert "Traceback" not in outcome.output
