"""Names are planted in tags, headers, files and folders; then every byte that leaves the private folder is searched."""

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner, Result

from toolkit.cli import app
from toolkit.scans import Volume
from toolkit.scans.audit import audit_folder
from toolkit.scans.audit.look import has_face
from toolkit.scans.manifest import content_hash

PLANTED = [
    "MUELLER", "HANNELORE", "PID778812", "ACC990017", "KLINIKUM", "LINDENHOF", "SCHNEIDER", "SONDERWUNSCH",
    "STATION7B", "REQUESTED", "PRIVATFELD", "19570817", "20210304", "OTHERID5", "DESCRIPNAME", "WEBER", "AUXNAME",
    "ordner", "geheim",
]  # fmt: skip
TAGS = {
    "PatientName": "MUELLER^HANNELORE", "PatientID": "PID778812", "AccessionNumber": "ACC990017",
    "PatientBirthDate": "19570817", "StudyDate": "20210304", "SeriesDate": "20210304", "OtherPatientIDs": "OTHERID5",
    "InstitutionName": "KLINIKUM LINDENHOF", "InstitutionAddress": "LINDENHOF 3", "ReferringPhysicianName": "SCHNEIDER",
    "OperatorsName": "SCHNEIDER", "StationName": "STATION7B", "SeriesDescription": "t2 flair MUELLER HANNELORE",
    "ProtocolName": "SONDERWUNSCH SCHNEIDER", "StudyDescription": "Kontrolle MUELLER",
    "ImageComments": "REQUESTED BY WEBER", "PatientComments": "WEBER", "RequestedProcedureDescription": "REQUESTED",
    "StudyID": "ACC990017", "Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra LINDENHOF",
    "BodyPartExamined": "BRAIN", "DeviceSerialNumber": "STATION7B",
}  # fmt: skip
PRIVATE = ("manifest.csv", "refused.csv", "crosswalk.csv", "warnings.csv", "unmatched.csv", "memory.sqlite")


def names_in(content: bytes) -> list[str]:
    found = []
    for name in PLANTED:
        spellings = {name, name.lower(), name.title()}
        encoded = {s.encode(code) for s in spellings for code in ("utf-8", "utf-16-le")}
        found += [name] if any(spelling in content for spelling in encoded) else []
    return found


@pytest.fixture
def planted(tmp_path: Path, dicom, head: Volume, scan: Volume) -> Path:
    folder = dicom("ordner MUELLER/geheim", **TAGS)
    for path in folder.iterdir():
        data = dcmread(path)
        block = data.private_block(0x0029, "PRIVATFELD MUELLER", create=True)
        block.add_new(0x10, "LO", "PRIVATFELD HANNELORE")
        request = Dataset()
        request.RequestedProcedureDescription, request.RequestingPhysician = "REQUESTED", "WEBER"
        data.RequestAttributesSequence = [request]
        data.save_as(path)
    dicom("ordner MUELLER/us", **TAGS | {"Modality": "US", "SeriesDescription": "MUELLER"})
    dicom("ordner MUELLER/burned", **TAGS | {"BurnedInAnnotation": "YES", "SeriesDescription": "t1 HANNELORE"})
    image = nib.Nifti1Image(scan.array[0], scan.affine)
    image.header["descrip"], image.header["aux_file"] = b"DESCRIPNAME MUELLER", b"AUXNAME"
    image.header["db_name"], image.header["intent_name"] = b"HANNELORE", b"WEBER"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"MUELLER PID778812"))
    nib.save(image, tmp_path / "in" / "HANNELORE_MUELLER_T1.nii.gz")
    (tmp_path / "in" / "MUELLER.nii").write_bytes(b"damaged")
    (tmp_path / "in" / "SCHNEIDER").write_bytes(b"")
    (tmp_path / "in" / "ordner MUELLER" / "geheim" / "WEBER").write_bytes(b"not DICOM")
    (tmp_path / "labels.csv").write_text("accession,label\nACC990017,1\nMUELLER,0\n")
    return tmp_path / "in"


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "audit", "in", "--out", "private", *arguments])


def test_no_planted_name_is_in_anything_but_the_private_tables(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(tmp_path, "--link", "labels.csv", "--on", "accession", "--keep-all-series")
    assert outcome.exit_code == 3, outcome.output
    printed = outcome.output + "".join(capfd.readouterr())
    assert names_in(printed.encode()) == []
    private = tmp_path / "private"
    written = {path.relative_to(private).as_posix(): path.read_bytes() for path in private.rglob("*") if path.is_file()}
    assert {name for name, content in written.items() if names_in(content)} <= set(PRIVATE)
    assert names_in(written["audit.html"]) == []
    assert len(names_in(written["crosswalk.csv"])) >= 4  # the names were there to be found
    # Of the manifest, which holds paths, every other column.
    manifest = audit_folder(planted, private).manifest
    assert names_in(manifest.drop(columns="path").to_csv().encode()) == []
    assert set(manifest.scanner) == {"SIEMENS Skyra", ""}
    assert set(manifest.sequence) == {"FLAIR", "T1"}


def test_a_store_and_its_builder_name_nobody(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "--keep-all-series")
    (tmp_path / "in" / "HANNELORE_MUELLER_T1.nii.gz").write_bytes(b"changed since")  # so that one is refused
    capfd.readouterr()
    outcome = CliRunner().invoke(app, ["data", "build", "private/manifest.csv", "--out", "store"])
    assert outcome.exit_code == 3, outcome.output
    assert names_in((outcome.output + "".join(capfd.readouterr())).encode()) == []
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert stored
    assert [path for path in stored if names_in(str(path.relative_to(tmp_path)).encode() + path.read_bytes())] == []


RUN = """
output: run
manifest: private/manifest.csv
preprocessing: {spacing_mm: [4, 4, 4]}
encoder: {patch_size: 8, width: 4}
views: {patch_size: 8, shift_voxels: 1}
objective: {name: simclr, hidden_dim: 16, projection_dim: 8}
training: {num_steps: 2, batch_size: 4, log_every: 1}
num_threads: 1
"""


@pytest.mark.parametrize("wrong", ["missing scan", "damaged scan", "missing series", "damaged series", "label map"])
def test_a_run_that_refuses_scans_names_nobody(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "--keep-all-series")
    manifest = tmp_path / "private" / "manifest.csv"
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    file, series = planted / "HANNELORE_MUELLER_T1.nii.gz", planted / "ordner MUELLER" / "geheim"
    if wrong == "missing scan":
        file.unlink()
    elif wrong == "damaged scan":  # and the manifest knows: then the reader is asked
        file.write_bytes(file.read_bytes()[:-900])
        rows.loc[rows.path.str.contains("HANNELORE_MUELLER"), "content_hash"] = content_hash([file])
    elif wrong == "missing series":
        shutil.rmtree(series)
    elif wrong == "damaged series":
        first = next(path for path in sorted(series.iterdir()) if path.name != "WEBER")
        (series / "HANNELORE.dcm").write_bytes(first.read_bytes()[:-99])
        first.unlink()
    else:
        (tmp_path / "MUELLER_labels.nhdr").write_text("NRRD0004\ndata file: ../MUELLER.raw\n")
        rows["label_map"] = str(tmp_path / "MUELLER_labels.nhdr")
    rows.to_csv(manifest, index=False)
    (tmp_path / "own.yaml").write_text(RUN)
    capfd.readouterr()
    share = "0.5" if wrong == "label map" else "0"
    outcome = CliRunner().invoke(app, ["run", "scan_pretrain", "-c", "own.yaml", f"crops.label_share={share}"])
    assert outcome.exit_code == 1, outcome.output
    printed = outcome.output + "".join(capfd.readouterr())
    assert names_in(printed.encode()) == []
    assert "error: " in printed and "row " in printed and "build_refused.csv" in printed
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert kept == []  # what could hold a name is not even begun
    refused = tmp_path / "private" / "build_refused.csv"
    assert names_in(refused.read_bytes()) and refused.stat().st_mode & 0o077 == 0


def test_init_writes_no_name_either(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(app, ["init", "in", "--out", "study"])
    assert outcome.exit_code == 0, outcome.output
    assert names_in((outcome.output + "".join(capfd.readouterr())).encode()) == []
    public = [path for path in (tmp_path / "study").rglob("*") if path.is_file() and path.name not in PRIVATE]
    assert len(public) >= 4
    assert [path.name for path in public if names_in(path.read_bytes())] == []


def test_the_page_has_no_path_no_date_and_no_script(tmp_path: Path, planted: Path) -> None:
    audit_folder(planted, tmp_path / "private")
    page = (tmp_path / "private" / "audit.html").read_text()
    assert str(tmp_path) not in page
    assert "#1.2." not in page and not re.search(r"\b1\.2\.826\.[\d.]{10,}", page)  # UIDs
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert re.search(r'<th scope="row">[0-9a-f]{6}</th>', page)  # the site, under a pseudonym, shortened
    assert not re.search(r"[0-9a-f]{8}\.[0-9a-f]{16}", page)


def test_pictures_with_writing_burned_in_are_not_shown(tmp_path: Path, dicom) -> None:
    dicom("a", BurnedInAnnotation="YES")
    audit_folder(tmp_path / "in", tmp_path / "private")
    page = (tmp_path / "private" / "audit.html").read_text()
    assert "Middle slices" not in page and "image/png" not in page
    assert "burned-in annotation" in page


def test_a_face_is_warned_of_until_it_is_removed(tmp_path: Path, faced: Volume) -> None:
    assert has_face(faced)
    defaced = faced.array.copy()
    defaced[:, :, int(0.6 * faced.shape[1]) :, : faced.shape[2] // 2] = 0
    assert not has_face(Volume(defaced, faced.affine))
    stripped = np.where(faced.array > 500, faced.array, 0)
    assert not has_face(Volume(stripped, faced.affine))


@pytest.fixture
def faced() -> Volume:
    """A ball with a bright core, a nose that sticks out low in front, dark bone and noisy air."""
    rng = np.random.default_rng([1])
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij")
    radius = np.sqrt(x**2 + (y + 0.15) ** 2 + z**2)
    array = np.where(radius < 0.8, 300.0, 0.0)
    array[(np.abs(x) < 0.35) & (y > 0) & (y < 0.85) & (z < -0.1) & (z > -0.7)] = 300
    array[(radius < 0.72) & (radius > 0.66)] = 5
    array[radius < 0.66] = 700
    array += np.abs(rng.normal(0, 6, array.shape))
    return Volume(array[None].astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
