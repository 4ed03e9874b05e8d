"""Whole cohorts: what is written is what is said to be true, however it was made."""

import multiprocessing
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from toolkit.cards import fetch, load_card, verify
from toolkit.errors import DataError
from toolkit.scans import read_volume
from toolkit.scans.cohort import CohortConfig, LesionConfig, subjects, synthesize

SMALL = CohortConfig(
    num_subjects=4,
    brain="parametric",
    num_sites=2,
    num_sessions=2,
    spacing_mm=8,
    missing=0.3,
    lesion=LesionConfig(prevalence=0.75, volume_ml=(10, 30)),
)
NIFTI = SMALL.model_copy(update={"format": "nifti", "num_sessions": 1})


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    synthesize(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def truth(cohort: Path) -> pd.DataFrame:
    return pd.read_csv(cohort / "truth.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def nifti_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nifti")
    synthesize(NIFTI, folder)
    return folder


def test_what_is_true_is_in_the_files(cohort: Path, truth: pd.DataFrame) -> None:
    assert set(truth["number"]) == {1, 2, 3, 4} and set(truth["session"]) == {1, 2}
    assert set(truth["label"]) == {"lesion", "healthy"}
    for row in truth.itertuples():
        volume = read_volume(cohort / row.path)
        assert volume.shape == tuple(map(int, row.shape.split("x")))
        np.testing.assert_allclose(volume.spacing_mm, [float(part) for part in row.spacing_mm.split("x")], rtol=1e-4)
        assert (row.mask != "") == (row.kind != "") == (row.label == "lesion")
        if not row.mask:
            continue
        mask_ml, asked_ml, *centre_mm = map(
            float, (row.mask_ml, row.asked_ml, row.centre_r_mm, row.centre_a_mm, row.centre_s_mm)
        )
        mask = read_volume(cohort / row.mask)
        np.testing.assert_allclose(mask.affine, volume.affine, atol=1e-3)
        assert mask.shape == volume.shape
        assert set(np.unique(mask.array)) == {0, 1}
        voxel_ml = np.prod(volume.spacing_mm) / 1000
        assert mask.array.sum() * voxel_ml == pytest.approx(mask_ml, rel=1e-3)
        assert mask_ml == pytest.approx(asked_ml, abs=0.51 * voxel_ml)
        centre = (mask.affine @ [*np.argwhere(mask.array[0]).mean(0), 1])[:3]
        np.testing.assert_allclose(centre, centre_mm, atol=2e-3)


def test_a_bright_lesion_is_bright(cohort: Path, truth: pd.DataFrame) -> None:
    for row in truth[(truth["label"] == "lesion") & (truth["sequence"] == "T1")].itertuples():
        volume, mask = read_volume(cohort / row.path).array[0], read_volume(cohort / row.mask).array[0] > 0
        assert volume[mask].mean() > 1.15 * np.median(volume[volume > np.percentile(volume, 60)])


def test_sequences_of_a_session_show_one_place_and_sessions_another_pose(truth: pd.DataFrame) -> None:
    ill = truth[truth["label"] == "lesion"]
    centre = ["centre_r_mm", "centre_a_mm", "centre_s_mm"]
    for _, rows in ill.groupby(["number", "session"]):
        places = rows[centre].to_numpy(float)
        assert np.abs(places - places[0]).max() < 6  # voxels have 8 mm
        assert rows["asked_ml"].nunique() == 1
    sessions = ill[ill["sequence"] == "T1"].set_index(["number", "session"])
    moved_mm = []
    for number in ill["number"].unique():
        first, second = sessions.loc[(number, 1)], sessions.loc[(number, 2)]
        moved_mm.append(np.abs(first[centre].to_numpy(float) - second[centre].to_numpy(float)).max())
        assert float(second["asked_ml"]) == pytest.approx(float(first["asked_ml"]) * 1.15, abs=1e-3)
    assert min(moved_mm) > 4


def test_one_label_a_person_and_one_site(cohort: Path, truth: pd.DataFrame) -> None:
    assert (truth.groupby("subject")[["label", "site"]].nunique() == 1).all(axis=None)
    assert (truth["jacobian_min"] > 0).all()
    labels = pd.read_csv(cohort / "labels.csv", keep_default_na=False)
    assert list(labels) == ["path", "subject", "accession", "label", "kind", "mask"]
    pd.testing.assert_frame_equal(labels, truth[list(labels)])


def test_dicom_says_who_where_and_that_all_is_made_up(cohort: Path, truth: pd.DataFrame) -> None:
    for row in truth.itertuples():
        files = [pydicom.dcmread(path, stop_before_pixels=True) for path in (cohort / row.path).iterdir()]
        first = files[0]
        assert {file.SeriesInstanceUID for file in files} == {first.SeriesInstanceUID}
        assert (first.PatientID, first.AccessionNumber, first.StudyDate) == (row.subject, row.accession, str(row.date))
        assert first.InstitutionName == row.site
        assert f"{first.Manufacturer} {first.ManufacturerModelName}" == row.scanner
        assert first.SeriesDescription == row.sequence
        assert str(first.PatientName).startswith("MADEUP")
        by_position = sorted(files, key=lambda file: float(np.dot(file.ImagePositionPatient, [1.01, 1.02, 1.03])))
        numbers = [file.InstanceNumber for file in by_position]
        assert numbers not in (sorted(numbers), sorted(numbers)[::-1])
    uids = [pydicom.dcmread(next((cohort / path).iterdir())).StudyInstanceUID for path in truth["path"]]
    assert pd.Series(uids).groupby(truth["accession"]).nunique().eq(1).all()
    assert len(set(uids)) == truth["accession"].nunique()


def test_simpleitk_sees_the_scans_where_the_masks_are(cohort: Path, truth: pd.DataFrame) -> None:
    for row in truth[truth["label"] == "lesion"].itertuples():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(cohort / row.path)))
        image = reader.Execute()
        mask = nib.load(cohort / row.mask)
        for index in [(0, 0, 0), tuple(np.array(mask.shape) - 1)]:
            world = (mask.affine @ [*index, 1])[:3] * [-1, -1, 1]
            place = np.array(image.TransformPhysicalPointToContinuousIndex(world))
            np.testing.assert_allclose((place - np.rint(place)) * image.GetSpacing(), 0, atol=1e-3)
            assert (place > -0.01).all() and (place < np.array(image.GetSize()) - 0.99).all()


def test_a_larger_cohort_has_the_same_first_subjects(tmp_path: Path, nifti_cohort: Path) -> None:
    few, more = tmp_path / "few", tmp_path / "more"
    synthesize(NIFTI.model_copy(update={"num_subjects": 2}), few)
    synthesize(NIFTI.model_copy(update={"num_subjects": 5}), more)
    both = {name: content for name, content in contents(few).items() if name.startswith(("scans/", "masks/"))}
    assert len(both) >= 2
    assert both.items() <= contents(more).items()
    synthesize(NIFTI, few)  # grows from 2 to 4
    assert contents(few) == contents(nifti_cohort)


def test_another_seed_is_another_cohort(tmp_path: Path, nifti_cohort: Path) -> None:
    synthesize(NIFTI.model_copy(update={"seed": 1, "num_subjects": 1, "missing": 0.0}), tmp_path)
    image, other = (
        nib.load(next(folder.rglob("*_T1.nii.gz"))) for folder in (tmp_path / "scans", nifti_cohort / "scans")
    )
    assert image.shape != other.shape or not np.allclose(image.get_fdata(), other.get_fdata())


def _killed(out: Path, after: int) -> None:
    """Ends itself with SIGKILL in the middle of a subject, as the system does when memory runs out."""
    write, calls = subjects.write_nifti, []

    def counted(*arguments: object, **keywords: object) -> None:
        calls.append(1)
        if len(calls) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*arguments, **keywords)

    subjects.write_nifti = counted
    synthesize(NIFTI, out, num_workers=1)


@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_cohort_is_taken_up_again(tmp_path: Path, nifti_cohort: Path, after: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    there = contents(tmp_path)
    assert not (tmp_path / "truth.csv").exists()
    finished = [name for name in there if name.startswith(".records/")]
    assert len(finished) < 4
    begun = tmp_path / f".partial/0000{len(finished) + 1}/scans/sub-0000{len(finished) + 1}"
    begun.mkdir(parents=True, exist_ok=True)
    (begun / ".image.nii.gz.1.tmp").write_bytes(b"cut off in the middle of a file")
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in finished}
    synthesize(NIFTI, tmp_path, num_workers=1)
    assert contents(tmp_path) == contents(nifti_cohort)
    assert times == {name: (tmp_path / name).stat().st_mtime_ns for name in finished}


def test_a_lost_file_is_made_again(tmp_path: Path, nifti_cohort: Path) -> None:
    synthesize(NIFTI, tmp_path)
    next((tmp_path / "masks").rglob("*.nii.gz")).unlink()
    synthesize(NIFTI, tmp_path)
    assert contents(tmp_path) == contents(nifti_cohort)


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(tmp_path: Path, nifti_cohort: Path) -> None:
    config = NIFTI.model_copy(update={"num_subjects": 5})
    synthesize(config, tmp_path / "one", num_workers=1)
    synthesize(config, tmp_path / "two", num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_card_is_one_and_says_synthetic(cohort: Path, nifti_cohort: Path) -> None:
    for folder in (cohort, nifti_cohort):
        card = load_card(folder / "card.md")
        assert fetch(card) == folder.resolve()
        assert verify(card) == []
        for reader in card.reader:
            assert list(folder.glob(reader.member))
        assert "SYNTHETIC" in card.pretty_name and "SYNTHETIC" in card.personal_data.consent
        assert "must not be used" in card.prose and "Nobody was scanned" in card.prose
        assert "{{" not in card.prose
        assert card.counts["people"] == 4
        labels = pd.read_csv(folder / "labels.csv", keep_default_na=False).drop_duplicates("subject")["label"]
        assert card.counts["people_by_label"] == labels.value_counts().to_dict()


@pytest.mark.parametrize("format", ["dicom", "nifti"])
def test_names_are_in_file_names_on_request_only(tmp_path: Path, format: str) -> None:
    config = SMALL.model_copy(update={"num_subjects": 1, "num_sessions": 1, "format": format})
    for named in (False, True):
        out = tmp_path / str(named)
        truth = synthesize(config.model_copy(update={"names_in_files": named}), out)
        assert all(("MADEUP" in path) is named for path in truth["path"])
        first = next(path for path in (out / "scans").rglob("*") if path.is_file())
        if format == "nifti":
            assert (b"MADEUP" in nib.load(first).header["descrip"].item()) is named
        else:
            assert "MADEUP" in str(pydicom.dcmread(first).PatientName)


def test_enhanced_multi_frame_series_are_one_file(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"num_subjects": 1, "num_sessions": 1, "multiframe": True})
    truth = synthesize(config, tmp_path)
    for row in truth.itertuples():
        (path,) = (tmp_path / row.path).iterdir()
        assert "x".join(map(str, sorted([*pydicom.dcmread(path).pixel_array.shape]))) == "x".join(
            map(str, sorted(map(int, row.shape.split("x"))))
        )


def test_no_other_folder_is_touched(tmp_path: Path, nifti_cohort: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no cohort"):
        synthesize(NIFTI, tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    before = contents(nifti_cohort)
    with pytest.raises(DataError, match="holds a cohort with another seed, shortcut"):
        synthesize(NIFTI.model_copy(update={"seed": 3, "shortcut": 0.5}), nifti_cohort)
    with pytest.raises(DataError, match="of 4 subjects; a cohort can be made larger"):
        synthesize(NIFTI.model_copy(update={"num_subjects": 3}), nifti_cohort)
    assert contents(nifti_cohort) == before
