"""The manifest: what is found, under which pseudonym, and what is kept from other eyes."""

import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from toolkit.errors import DataError
from toolkit.scans import build_manifest, read_volume
from toolkit.scans.manifest import content_hash, scan_files


@pytest.fixture
def scans(tmp_path: Path, write_series) -> Path:
    folder = tmp_path / "scans"
    image = nib.Nifti1Image(np.random.default_rng([0]).random((6, 7, 8)), np.diag([1, 1, 2, 1]))
    for name in ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "ward/patient.nii"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
    write_series(folder / "dicom", [0.0, 3.0, 6.0], patient="Roe^Richard")
    write_series(folder / "dicom", [0.0, 3.0, 6.0, 9.0], patient="Roe^Richard")
    write_series(folder / "gap", [0.0, 3.0, 9.0, 12.0], patient="Poe^Edgar")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    (folder / "readme.txt").write_text("text")
    return folder


def test_every_readable_scan_has_a_row_that_can_be_read(scans: Path, tmp_path: Path) -> None:
    manifest = build_manifest(scans, tmp_path / "private")
    assert len(manifest) == 4
    for row in manifest.itertuples():
        assert "x".join(map(str, read_volume(row.path).shape)) == row.shape
    bids = manifest[manifest.path.str.contains("sub-01")].iloc[0]
    assert (bids.session, bids.sequence, bids.spacing_mm) == ("2", "T1w", "1x1x2")
    dicom = manifest[manifest.modality == "MR"]
    assert dicom.scanner.tolist() == ["Maker Model"] * 2
    assert dicom.site.tolist() == ["Hospital"] * 2
    assert dicom.subject.nunique() == 1  # two series, one person
    assert manifest.content_hash.nunique() == 4
    saved = pd.read_csv(tmp_path / "private" / "manifest.csv", keep_default_na=False)
    assert saved.path.tolist() == manifest.path.tolist()


def test_refused_scans_are_listed_with_the_reason(scans: Path, tmp_path: Path) -> None:
    build_manifest(scans, tmp_path / "private")
    refusals = pd.read_csv(tmp_path / "private" / "refusals.csv")
    reasons = dict(zip(refusals.path.map(lambda p: Path(p).name), refusals.reason, strict=True))
    assert "damaged" in reasons["broken.nii.gz"]
    assert "missing slices" in reasons["gap"]


def test_pseudonyms_are_stable_and_names_stay_in_the_crosswalk(scans: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    first, second = (build_manifest(scans, private) for _ in range(2))
    assert first.subject.tolist() == second.subject.tolist()
    shown = first.drop(columns="path").to_csv()
    assert "Roe" not in shown
    assert "1.2.3" not in shown
    crosswalk = pd.read_csv(private / "crosswalk.csv").set_index("person").subject
    assert crosswalk["Roe^Richard"] == first[first.modality == "MR"].subject.iloc[0]
    elsewhere = build_manifest(scans, tmp_path / "other")
    assert set(elsewhere.subject).isdisjoint(first.subject)  # another key


def test_the_folder_is_private(scans: Path, tmp_path: Path) -> None:
    build_manifest(scans, tmp_path / "private")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "private" / "key").stat().st_mode) == 0o600


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no readable scan"):
        build_manifest(tmp_path / "empty", tmp_path / "private")
    with pytest.raises(DataError, match="no such folder"):
        build_manifest(tmp_path / "gone", tmp_path / "private")


def test_one_damaged_dicom_file_is_a_refusal(scans: Path, tmp_path: Path) -> None:
    damaged = next((scans / "dicom").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:152])  # in the middle of a length
    assert len(build_manifest(scans, tmp_path / "private")) == 2
    refusals = pd.read_csv(tmp_path / "private" / "refusals.csv").set_index("path").reason
    assert "damaged DICOM file" in refusals[str(scans / "dicom")]


def test_the_hash_is_that_of_the_files_that_a_path_names(scans: Path, tmp_path: Path) -> None:
    for row in build_manifest(scans, tmp_path / "private").itertuples():
        assert content_hash(scan_files(row.path)) == row.content_hash


def test_git_leaves_the_private_folder_out(scans: Path, tmp_path: Path) -> None:
    build_manifest(scans, tmp_path / "private")
    assert (tmp_path / "private" / ".gitignore").read_text() == "*\n"


def test_a_short_key_is_refused_and_none_is_left_by_a_run_that_was_cut_off(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    private = tmp_path / "private"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", cut_off)
        with pytest.raises(KeyboardInterrupt):
            build_manifest(scans, private)
    assert not (private / "key").exists()
    (private / "key").write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes where a key has 32"):
        build_manifest(scans, private)


def test_hounsfield_units_are_guessed_from_what_lies_far_below_zero(tmp_path: Path) -> None:
    for name, low in (("ct", -1000), ("mr", 0), ("filtered", -50)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        image = nib.Nifti1Image(np.linspace(low, 300, 216, dtype=np.float32).reshape(6, 6, 6), np.eye(4))
        nib.save(image, tmp_path / "scans" / name / "scan.nii")
    manifest = build_manifest(tmp_path / "scans", tmp_path / "private")
    assert manifest.modality.tolist() == ["CT?", "", ""]
