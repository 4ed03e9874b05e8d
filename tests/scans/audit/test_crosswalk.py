"""On site, pseudonyms become the hospital's own numbers again."""

import stat
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.scans.audit import audit_folder
from toolkit.scans.audit.crosswalk import translate_table


@pytest.fixture
def manifest(tmp_path: Path, dicom) -> pd.DataFrame:
    dicom("a", PatientID="FAKE-1", AccessionNumber="ACC1", InstitutionName="North Ward")
    dicom("b", PatientID="FAKE-2", AccessionNumber="ACC2")
    return audit_folder(tmp_path / "in", tmp_path / "private").manifest


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_worklist_is_translated_back(tmp_path: Path, manifest: pd.DataFrame, suffix: str) -> None:
    worklist = pd.DataFrame(
        {"subject": manifest.subject, "study": manifest.study, "score": [0.9, 0.1], "note": ["first", "second"]}
    )
    worklist.loc[2] = ["00000000.0000000000000000", "", 0.5, "somebody else's"]
    path = tmp_path / f"worklist{suffix}"
    worklist.to_parquet(path) if suffix == ".parquet" else worklist.to_csv(path, index=False)
    crosswalk = tmp_path / "private" / "crosswalk.csv"
    outcome = CliRunner().invoke(app, ["data", "translate", str(path), "--crosswalk", str(crosswalk)])
    assert outcome.exit_code == 0, outcome.output
    assert "4 pseudonyms translated" in outcome.output and "1 pseudonyms are not in this crosswalk" in outcome.output
    target = tmp_path / "private" / "worklist.identified.csv"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    table = pd.read_csv(target, dtype=str, keep_default_na=False)
    assert list(table) == ["subject", "study", "accession", "score", "note"]
    assert table.subject.tolist() == ["FAKE-1", "FAKE-2", "00000000.0000000000000000"]
    assert table.accession.tolist() == ["ACC1", "ACC2", ""]
    assert table.study.str.startswith("1.2.826").tolist() == [True, True, False]
    assert table.note.tolist() == worklist.note.tolist()


def test_a_column_of_categories_is_translated(tmp_path: Path, manifest: pd.DataFrame) -> None:
    manifest[["subject", "study"]].astype("category").to_parquet(tmp_path / "w.parquet")
    target, num_cells, _ = translate_table(tmp_path / "w.parquet", tmp_path / "private" / "crosswalk.csv")
    table = pd.read_csv(target, dtype=str)
    assert table.subject.tolist() == ["FAKE-1", "FAKE-2"] and table.accession.tolist() == ["ACC1", "ACC2"]
    assert num_cells == 4


def test_names_are_not_written_into_a_run_folder(tmp_path: Path, manifest: pd.DataFrame) -> None:
    manifest.to_csv(tmp_path / "w.csv")
    target = tmp_path / "run" / "tables" / "names.csv"
    target.parent.mkdir(parents=True)
    (tmp_path / "run" / "provenance.json").write_text("{}")
    with pytest.raises(DataError, match="lies in the folder of a run"):
        translate_table(tmp_path / "w.csv", tmp_path / "private" / "crosswalk.csv", target)
    assert not target.exists()


def test_the_crosswalk_knows_every_kind(tmp_path: Path, manifest: pd.DataFrame) -> None:
    crosswalk = pd.read_csv(tmp_path / "private" / "crosswalk.csv", dtype=str, keep_default_na=False)
    assert crosswalk.kind.value_counts().to_dict() == {"accession": 2, "site": 2, "study": 2, "subject": 2}
    known = crosswalk.set_index("pseudonym")
    assert known.original[manifest.subject].tolist() == ["FAKE-1", "FAKE-2"]
    assert known.original[manifest.site].tolist() == ["north ward", "madeup hospital"]
    assert known.accession[manifest.study].tolist() == ["ACC1", "ACC2"]


def test_another_table_is_no_crosswalk(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column 'kind'; give the crosswalk"):
        translate_table(tmp_path / "a.csv", tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"no such file: .*b\.csv"):
        translate_table(tmp_path / "a.csv", tmp_path / "b.csv")


def test_nothing_to_translate_writes_nothing(tmp_path: Path, manifest: pd.DataFrame) -> None:
    crosswalk = tmp_path / "private" / "crosswalk.csv"
    (tmp_path / "w.csv").write_text("subject,score\n00000000.0000000000000000,1\n")
    with pytest.raises(DataError, match=r"has 1 pseudonyms, and none is in .*nothing was written"):
        translate_table(tmp_path / "w.csv", crosswalk)
    assert not (tmp_path / "private" / "w.identified.csv").exists()


def test_what_is_overwritten_is_said_and_is_never_what_was_read(tmp_path: Path, manifest: pd.DataFrame) -> None:
    path, crosswalk = tmp_path / "w.csv", tmp_path / "private" / "crosswalk.csv"
    manifest.to_csv(path)
    for target in (path, crosswalk):
        before = target.read_bytes()
        with pytest.raises(DataError, match="is read, and would be lost"):
            translate_table(path, crosswalk, target)
        assert target.read_bytes() == before
    command = ["data", "translate", str(path), "--crosswalk", str(crosswalk), "--out", str(tmp_path / "o.csv")]
    assert "replaced" not in CliRunner().invoke(app, command).output
    log.handlers.clear()  # each runner has an error stream of its own
    assert "o.csv was there and is replaced" in " ".join(CliRunner().invoke(app, command).output.split())
