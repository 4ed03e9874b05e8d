"""What an audit lists: every scan once, under a pseudonym, with what is known of it, and the right one of several."""

import shutil
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from toolkit.cards.pseudonyms import pseudonym, pseudonym_key
from toolkit.errors import DataError
from toolkit.scans import Volume, read_volume
from toolkit.scans.audit import Audit, AuditConfig, audit_folder
from toolkit.scans.audit import folder as folder_module
from toolkit.scans.audit.memory import Memory, question
from toolkit.scans.manifest import COLUMNS, content_hash, scan_files


@pytest.fixture
def run(tmp_path: Path):
    def once(**config: object) -> Audit:
        return audit_folder(tmp_path / "in", tmp_path / "private", AuditConfig(**config))

    return once


def refused(found: Audit) -> dict[str, str]:
    rows = zip(found.refused.path, found.refused.kind, strict=True)
    return {Path(path.partition("#")[0]).name: kind for path, kind in rows}


def kept(found: Audit) -> list[str]:
    return [Path(path.partition("#")[0]).name for path in found.manifest.path]


def test_each_row_can_be_read_and_says_what_is_there(tmp_path: Path, run, dicom, nifti) -> None:
    dicom("a", Manufacturer="SIEMENS", ManufacturerModelName="Prisma", SeriesDescription="t2_tse")
    nifti("bids/sub-07/ses-2/anat/sub-07_ses-2_T1w.nii.gz")
    nifti("bids/sub-07/ses-10/anat/sub-07_ses-10_FLAIR.nii.gz")
    manifest = run().manifest
    assert list(manifest.columns) == COLUMNS
    for row in manifest.itertuples():
        assert "x".join(map(str, read_volume(row.path).shape)) == row.shape
        assert content_hash(scan_files(row.path)) == row.content_hash
        assert len(row.fingerprint) == 384
    assert manifest.sequence.tolist() == ["T2", "FLAIR", "T1"]
    assert manifest.session.tolist() == ["1", "2", "1"]  # ses-10 comes after ses-2
    assert manifest.study.nunique() == 3
    assert manifest.subject.nunique() == 2
    assert manifest.loc[0, ["scanner", "modality", "spacing_mm"]].tolist() == ["SIEMENS Prisma", "MR", "2x2x3"]
    saved = pd.read_csv(tmp_path / "private" / "manifest.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(saved, manifest.astype(object), check_dtype=False)


def test_everything_is_private_and_pseudonyms_are_of_the_data_root(tmp_path: Path, run, dicom, data_root: Path) -> None:
    dicom("a", PatientID="FAKE-77")
    private = tmp_path / "private"
    private.mkdir(mode=0o755)  # made by hand, and open to all
    found = run()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for name in ("crosswalk.csv", "manifest.csv", "refused.csv", "audit.html", "memory.sqlite"):
        assert stat.S_IMODE((private / name).stat().st_mode) == 0o600, name
    assert (private / ".gitignore").read_text() == "*\n"
    assert found.manifest.subject.tolist() == [pseudonym(pseudonym_key(data_root), "subject", "FAKE-77")]
    elsewhere = audit_folder(tmp_path / "in", tmp_path / "other").manifest
    assert elsewhere.subject.tolist() == found.manifest.subject.tolist()


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path, run, nifti) -> None:
    nifti("a.nii")
    repository = tmp_path / "private"
    repository.mkdir(mode=0o755)
    (repository / ".gitignore").write_text("*.pyc\n")
    for name in ("code.py", "manifest.csv"):
        (repository / name).write_text("path,subject,study\n")
        with pytest.raises(DataError, match="holds files that are not an audit's; give a new or empty folder"):
            run()
    assert (repository / ".gitignore").read_text() == "*.pyc\n"
    assert stat.S_IMODE(repository.stat().st_mode) == 0o755
    (repository / ".gitignore").unlink()  # now what was an audit's
    run()
    assert len(run().manifest) == 1
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is no folder"):
        audit_folder(tmp_path / "in", tmp_path / "file")


def test_the_crosswalk_may_not_lie_in_a_run_folder(tmp_path: Path, dicom) -> None:
    dicom("a")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "provenance.json").write_text("{}")
    with pytest.raises(DataError, match="folder of a run"):
        audit_folder(tmp_path / "in", tmp_path / "run" / "private")


UNWANTED = [
    ({"Modality": "US"}, "wrong modality"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
    ({"SeriesDescription": "AAHead_Scout_64ch"}, "localiser"),
    ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "derived"),
]


def test_what_is_nothing_to_learn_from_is_refused(run, dicom) -> None:
    dicom("good")
    for number, (tags, _) in enumerate(UNWANTED):
        dicom(f"bad{number}", AccessionNumber=f"A{number}", **tags)
    found = run()
    assert kept(found) == ["good"]
    assert refused(found) == {f"bad{number}": reason for number, (_, reason) in enumerate(UNWANTED)}


def test_what_is_refused_can_be_asked_for(run, dicom) -> None:
    dicom("us", Modality="US")
    dicom("derived", ImageType=["DERIVED", "PRIMARY"], AccessionNumber="2")
    assert kept(run(modalities=("US", "MR"), keep_derived=True)) == ["derived", "us"]


def test_a_series_of_several_patients_is_refused(run, dicom) -> None:
    dicom("good")
    uids = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"}
    one, other = (dicom(name, PatientID=name, SeriesNumber=9, **uids) for name in ("x1", "x2"))
    for path in sorted(one.iterdir())[::2]:
        (other / path.name).write_bytes(path.read_bytes())
        path.unlink()
    for path in one.iterdir():
        path.unlink()
    assert refused(run())["x2"] == "mixed slices"


def test_a_series_with_a_damaged_file_is_refused_and_its_neighbours_are_not(run, dicom) -> None:
    folder = dicom("a", SeriesDescription="T1")
    for path in folder.iterdir():
        path.rename(path.with_name(f"t1-{path.name}"))
    dicom("a", SeriesDescription="T2")
    last = folder / "IM00010.dcm"  # without it the rest would be an even stack
    content, uid = last.read_bytes(), pydicom.dcmread(last).SeriesInstanceUID.encode()
    last.write_bytes(content[: content.index(uid) + len(uid) + 10])
    (folder / "STRAY1").write_bytes(b"no DICOM at all")
    found = run()
    assert found.manifest.sequence.tolist() == ["T1"]
    assert refused(found) == {"IM00010.dcm": "unreadable", "STRAY1": "unreadable", "a": "incomplete series"}


def test_an_export_that_was_made_twice_counts_once(tmp_path: Path, run, dicom) -> None:
    first = dicom("a/x")
    (tmp_path / "in" / "b").mkdir()
    for path in first.iterdir():
        (tmp_path / "in" / "b" / f"again-{path.name}").write_bytes(path.read_bytes())
    found = run()
    assert kept(found) == ["x"]
    assert refused(found) == {"b": "duplicate"}
    assert found.manifest.content_hash[0] == content_hash(scan_files(found.manifest.path[0]))


def test_the_same_bytes_under_two_names_are_one_scan(run, nifti, head: Volume) -> None:
    nifti("a/one.nii", head)
    nifti("b/two.nii", head)
    found = run()
    assert kept(found) == ["one.nii"]
    assert refused(found) == {"two.nii": "duplicate"}
    assert "of another subject" in found.refused.reason[0]


def test_a_series_in_several_folders_is_one_scan(run, dicom, head: Volume) -> None:
    folder = dicom("a/1")
    (folder.parent / "2").mkdir()
    for path in sorted(folder.iterdir())[5:]:
        path.rename(folder.parent / "2" / path.name)
    manifest = run().manifest
    assert manifest.path[0].startswith(f"{folder.parent}/**#")
    assert read_volume(manifest.path[0]).shape == head.shape


CHOICES = [
    ("original", {"ImageType": ["ORIGINAL", "PRIMARY"]}, {"ImageType": ["DERIVED", "PRIMARY"]}, {}, {}),
    ("thin", {}, {}, {"step": 1.5}, {}),
    ("axial", {}, {}, {}, {"axes": "sagittal"}),
    ("slices", {}, {}, {"slices": 10}, {"slices": 8}),
    ("soft", {"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}, {}, {}),
]


def test_of_several_series_of_a_kind_the_rule_chooses(run, dicom, textured) -> None:
    names = {}
    for number, (rule, best_tags, other_tags, best, other) in enumerate(CHOICES):
        for swapped in (False, True):  # which is named and numbered first changes nothing
            study, pair = f"1.9.{number + 1}{swapped:d}", [("best", best_tags, best), ("other", other_tags, other)]
            for name, tags, shape in pair[:: -1 if swapped else 1]:
                size, step = shape.get("slices", 10), shape.get("step", 2.0)
                array = 1000 * textured[:, number : number + 10, :10, :size] + 2 * swapped + (name == "best")
                volume = Volume(np.ascontiguousarray(array), np.diag([2.0, 2.0, step, 1.0]))
                axes = shape.get("axes", "axial")
                folder = f"{rule}{swapped:d}-{name}"
                dicom(folder, volume, axes=axes, modality="CT", StudyInstanceUID=study, **tags)
                names[folder] = rule
    found = run(keep_derived=True)
    assert kept(found) == sorted(name for name in names if name.endswith("best"))
    assert refused(found) == {name: "not chosen" for name in sorted(names) if name.endswith("other")}
    for row in found.refused.itertuples():
        assert f"rule '{names[Path(row.path.partition('#')[0]).name]}'" in row.reason
    assert sorted(kept(run(keep_derived=True, keep_all_series=True))) == sorted(names)


def test_where_the_best_cannot_be_read_the_next_is_taken(run, dicom) -> None:
    study = {"StudyInstanceUID": "1.9", "SeriesDescription": "T1"}
    best = dicom("best", ImageType=["ORIGINAL", "PRIMARY"], **study)
    dicom("other", ImageType=["DERIVED", "PRIMARY"], **study)
    path = next(best.iterdir())
    path.write_bytes(path.read_bytes()[:-200])
    found = run(keep_derived=True)
    assert kept(found) == ["other"]
    assert refused(found) == {"best": "truncated"}


def test_the_sequences_of_a_study_are_one_case(run, dicom) -> None:
    for number, name in enumerate(["t1_mprage", "ax t2 flair", "ep2d_diff_trace", "t1_mprage_post"]):
        dicom(name, SeriesDescription=name, StudyInstanceUID="1.9", StudyDate="20210101", SeriesNumber=number)
    dicom("later", SeriesDescription="T1", StudyInstanceUID="1.10", StudyDate="20220101")
    manifest = run().manifest
    assert manifest.groupby("study").sequence.apply(sorted).tolist() in (
        [["DWI", "FLAIR", "T1", "T1C"], ["T1"]],
        [["T1"], ["DWI", "FLAIR", "T1", "T1C"]],
    )
    assert manifest.set_index("session").sequence["2"] == "T1"
    assert (manifest.session == "1").sum() == 4


def test_the_subject_may_be_said_by_a_pattern(run, nifti) -> None:
    nifti("batch1/p01_x.nii")
    nifti("batch1/p02_x.nii")
    nifti("batch2/p01_y.nii")
    assert run().manifest.subject.nunique() == 2  # by folder
    assert run(subject_pattern=r"(p\d+)_").manifest.subject.tolist()[0::2] != run().manifest.subject.tolist()[0::2]
    subjects = run(subject_pattern=r"(p\d+)_").manifest.subject.tolist()
    assert subjects[0] == subjects[2] != subjects[1]


def test_hounsfield_units_are_guessed_from_what_lies_far_below_zero(tmp_path: Path, run) -> None:
    for name, low in (("ct", -1000), ("mr", 0), ("filtered", -50)):
        (tmp_path / "in" / name).mkdir(parents=True)
        data = np.linspace(low, 300, 512, dtype=np.float32).reshape(8, 8, 8)
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "in" / name / "scan.nii")
    assert run().manifest.modality.tolist() == ["CT?", "", ""]


def test_warnings_name_what_may_show_a_person(tmp_path: Path, run, dicom, nifti, head: Volume) -> None:
    dicom("burned", BurnedInAnnotation="YES")
    image = nib.Nifti1Image(head.array[0], head.affine)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "in" / "unplaced.nii")
    nifti("fine.nii")
    warnings = run().warnings
    assert [(Path(path.partition("#")[0]).name, warning.partition(":")[0]) for path, warning in warnings.values] == [
        ("burned", "burned-in annotation"),
        ("fine.nii", "subject guessed from the path"),
        ("unplaced.nii", "subject guessed from the path"),
        ("unplaced.nii", "no orientation in the header"),
    ]


def test_one_study_without_a_patients_number_is_one_subject_and_warned_of(run, dicom) -> None:
    for name in ("T1", "FLAIR"):
        dicom(f"flat{name}", PatientID="", StudyInstanceUID="1.9", SeriesDescription=name)
    dicom("other", PatientID="", StudyInstanceUID="1.10", SeriesDescription="T1")
    dicom("sub-7/T1", PatientID="", StudyInstanceUID="1.11")
    dicom("named", PatientID="FAKE-2")
    found = run()
    subjects = found.manifest.set_index(found.manifest.path.str.extract(r"/in/(.*)#")[0]).subject
    assert subjects["flatT1"] == subjects["flatFLAIR"]
    assert subjects.nunique() == 4
    assert found.warnings.warning.str.partition(":")[0].tolist() == ["subject guessed from the study"] * 3
    found = run(subject_pattern="(flat|other|named|sub)")
    assert found.warnings.empty and found.manifest.subject.nunique() == 4


def test_a_subject_guessed_from_a_path_is_warned_of(run, nifti) -> None:
    for name in ("1234_T1.nii.gz", "1234_FLAIR.nii.gz", "sub-5/sub-5_T1w.nii.gz"):
        nifti(name)
    guessed = run().warnings
    assert [Path(path).name for path in guessed.path] == ["1234_FLAIR.nii.gz", "1234_T1.nii.gz"]
    assert set(guessed.warning) == {"subject guessed from the path: say who is who with --subject REGEX"}
    found = run(subject_pattern=r"(\d+)_")
    assert found.warnings.empty and found.manifest.subject.nunique() == 2


def test_values_that_are_not_finite_are_warned_of(tmp_path: Path, run, nifti, head: Volume) -> None:
    data = head.array[0].copy()
    data[: len(data) // 20] = np.nan
    nifti("fine.nii")
    nib.save(nib.Nifti1Image(data, head.affine), tmp_path / "in" / "holes.nii")
    (path, warning), *_ = (row for row in run().warnings.values if "not finite" in row[1])
    assert path.endswith("holes.nii")
    assert warning.startswith("values that are not finite: ")


def test_a_second_audit_reads_only_what_changed(run, dicom, nifti, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom("a")
    path = nifti("b.nii")
    first = run()
    asked = []
    original = folder_module.isolated

    def spy(function, tasks, **options):
        asked.extend((function.__name__, len(task[0])) for task in tasks)
        return original(function, tasks, **options)

    monkeypatch.setattr(folder_module, "isolated", spy)
    pd.testing.assert_frame_equal(run().manifest, first.manifest)
    assert asked == []
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for _ in range(2):  # a refusal is not remembered: the cause may go without a trace in size or time
        assert refused(run()) == {"b.nii": "truncated"}
    assert asked == [("look", 1)] * 2


def test_the_number_of_processes_changes_nothing(tmp_path: Path, run, dicom, nifti) -> None:
    for number in range(3):
        dicom(f"d{number}", PatientID=f"FAKE-{number}")
        nifti(f"n{number}.nii")
    outputs = []
    for workers in (1, 3):
        run(num_workers=workers)
        names = ("manifest.csv", "refused.csv", "warnings.csv", "crosswalk.csv", "audit.html")
        outputs.append([(tmp_path / "private" / name).read_bytes() for name in names])
        (tmp_path / "private" / "memory.sqlite").unlink()
    assert outputs[0] == outputs[1]


def test_a_damaged_memory_is_begun_anew(tmp_path: Path, run, nifti) -> None:
    nifti("a.nii")
    run()
    (tmp_path / "private" / "memory.sqlite").write_bytes(b"no database" * 1000)
    assert len(run().manifest) == 1


def test_what_was_found_out_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.scans.audit.memory._SAVE_EVERY_S", 0)
    killed = Memory(tmp_path / "m.sqlite")
    killed.put("first", {"answer": 1})
    assert Memory(tmp_path / "m.sqlite").get("first") == {"answer": 1}  # and nobody closed the first


def test_what_an_audit_did_not_ask_for_is_forgotten(tmp_path: Path, run, nifti, dicom, monkeypatch) -> None:
    memory = tmp_path / "private" / "memory.sqlite"
    gone = dicom("DOE_JANE")
    for number in range(30):
        nifti(f"n{number}.nii")
    run()
    content = memory.read_bytes()
    assert b"DOE_JANE" in content
    shutil.rmtree(gone)
    monkeypatch.setattr("toolkit.scans.audit.memory._code", lambda: "f" * 16)  # an upgrade
    run()
    assert b"DOE_JANE" not in memory.read_bytes()
    assert memory.stat().st_size <= len(content)
    (tmp_path / "in").rename(tmp_path / "away")
    (tmp_path / "in").mkdir()  # a disk that is not there today
    with pytest.raises(DataError, match="no file that looks like a scan"):
        run()
    (tmp_path / "in").rmdir()
    (tmp_path / "away").rename(tmp_path / "in")
    monkeypatch.setattr(folder_module, "isolated", lambda function, tasks, **_: iter([1] if tasks else []))
    assert len(run().manifest) == 30  # all from memory


def test_a_private_folder_among_the_scans_is_not_looked_into(tmp_path: Path, nifti) -> None:
    nifti("a.nii")
    for _ in range(2):
        found = audit_folder(tmp_path / "in", tmp_path / "in" / "private")
        assert kept(found) == ["a.nii"] and found.refused.empty


def test_a_path_without_the_subjects_pattern_is_refused(run, nifti, dicom) -> None:
    nifti("p01_x.nii")
    nifti("other.nii")
    dicom("p02_series")
    found = run(subject_pattern=r"(p\d+)_")
    assert kept(found) == ["p01_x.nii", "p02_series"]
    assert refused(found) == {"other.nii": "no subject"}


def test_sequences_without_a_description_are_not_taken_for_the_same(run, dicom) -> None:
    for name in ("a", "b"):
        dicom(name, StudyInstanceUID="1.9", SeriesDescription="", ProtocolName="")
    assert kept(run()) == ["a", "b"]


def test_an_answer_of_other_code_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = question("look", [str(tmp_path / "a")])
    assert question("look", [str(tmp_path / "a")]) == before
    monkeypatch.setattr("toolkit.scans.audit.memory._code", lambda: "changed")
    assert question("look", [str(tmp_path / "a")]) != before
