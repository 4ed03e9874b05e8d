"""Labels join the scans' own names; what has no partner is listed."""

from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit.scans.audit import Audit, AuditConfig, audit_folder


@pytest.fixture
def run(tmp_path: Path):
    def once(table: str, **config: object) -> Audit:
        (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
        return audit_folder(tmp_path / "in", tmp_path / "private", AuditConfig(link=tmp_path / "labels.csv", **config))

    return once


@pytest.fixture
def series(dicom, nifti) -> None:
    dicom("a", PatientID="FAKE-1", AccessionNumber="ACC1")
    dicom("b", PatientID="FAKE-2", AccessionNumber="ACC2")
    nifti("c/d.nii")


@pytest.mark.parametrize(
    ("on", "table", "labels", "unmatched"),
    [
        ("subject", "subject,label\nFAKE-1,x\nc,y\nFAKE-9,z\n", ["x", "", "y"], ["labels:FAKE-9", "scans:b"]),
        ("accession", "\ufeffaccession;label\nACC2;1\n ACC1 ;0\n", ["0", "1", ""], ["scans:d.nii"]),
        ("path", "path,label\na,x\nb/IM00003.dcm,y\nc\\d.nii,z\n", ["x", "y", "z"], []),
        ("path", "path,label\nin/a,x\nin/c/d.nii,z\n", ["x", "", "z"], ["scans:b"]),  # from the table's own folder
    ],
)
def test_labels_are_joined(run, series, on: str, table: str, labels: list[str], unmatched: list[str]) -> None:
    found = run(table, link_on=on)
    assert found.manifest.label.tolist() == labels
    left = [f"{row.where}:{Path(row.name.partition('#')[0]).name}" for row in found.unmatched.itertuples(index=False)]
    assert left == unmatched


def test_an_absolute_path_and_another_column_will_do(run, series, tmp_path: Path) -> None:
    found = run(f"path,diagnosis\n{tmp_path / 'in' / 'c' / 'd.nii'},stroke\n", link_on="path", label_column="diagnosis")
    assert found.manifest.label.tolist() == ["", "", "stroke"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("subject,lable\n1,2\n", "no column 'label'; did you mean 'lable'?"),
        ("label,person\n1,2\n", "no column 'subject'"),
        ("subject,label\nFAKE-1,x\nFAKE-2,z\nFAKE-1,y\n", "line 4: a second label"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_table_that_cannot_be_used_says_why_and_names_nobody(run, series, table: str, message: str) -> None:
    with pytest.raises(DataError, match=r"labels\.csv") as caught:
        run(table)
    assert message in str(caught.value)
    assert "FAKE-1" not in str(caught.value)
