"""From a manifest to a store: every row is the scan that it says it is, and bad rows stop nothing else."""

import os
import re
import signal
import stat
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.errors import DataError, DiskError
from toolkit.scans import (
    Preprocessing,
    Volume,
    VolumeStore,
    build_store,
    preprocess,
    read_volume,
    store_manifest,
)
from toolkit.scans import build as build_module
from toolkit.scans import store as store_module
from toolkit.scans.build import Build, store_scan
from toolkit.scans.cohort import write_series
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.planning import plan_store
from toolkit.scans.store import LEVELS

SPEC = Preprocessing(spacing_mm=(1, 1, 1))


def save(path: Path, *shape: int, seed: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.random.default_rng([seed]).random(shape, np.float32), np.eye(4)), path)


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))


def list_scans(tmp_path: Path) -> Path:
    """The columns that a build reads, of the files in `scans/`: an audit's other work takes its time."""
    rows = []
    for path in sorted((tmp_path / "scans").iterdir()):
        shape = "" if path.is_dir() else "x".join(map(str, nib.load(path).shape[:3]))
        row = {"path": path, "subject": path.name, "content_hash": content_hash(scan_files(str(path)))}
        rows.append(row | {"shape": shape, "spacing_mm": "1x1x1"})
    (tmp_path / "private").mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(tmp_path / "private" / "manifest.csv", index=False)
    return tmp_path / "private" / "manifest.csv"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b")):
        save(tmp_path / "scans" / f"{name}.nii", 6, 7, 8, seed=seed)
    return list_scans(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were given to other processes, to be read."""
    names: list[str] = []
    really = build_module.isolated

    def counted(function, tasks, **options):
        names.extend(Path(path).name for path, *_ in tasks)
        return really(function, tasks, **options)

    monkeypatch.setattr(build_module, "isolated", counted)
    return names


def made(built: Build) -> list[str]:
    """Names of the scans that are new in the store."""
    return sorted(Path(built.rows["path"][row]).name for row in built.made["row"])


def edit(manifest: Path, **columns: object) -> None:
    pd.read_csv(manifest, dtype=str, keep_default_na=False).assign(**columns).to_csv(manifest, index=False)


# A run: every row or none


def test_each_row_has_a_volume_of_its_own(manifest: Path, tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "scans" / "dicom", [0.0, 3.0, 6.0])
    list_scans(tmp_path)
    stored, rows = store_manifest(manifest, SPEC, tmp_path / "store", channels=1)
    assert len({scan.load().array.tobytes() for scan in stored}) == rows["subject"].nunique() == 3
    for scan, path in zip(stored, rows["path"], strict=True):
        expected = preprocess(read_volume(path), SPEC)
        np.testing.assert_allclose(scan.load().array, expected.array, atol=0.51 / LEVELS)
        np.testing.assert_allclose(scan.affine, expected.affine)


def refusals(manifest: Path, store: Path, **options: object) -> dict[str, str]:
    """Why a run is refused, by the scan's name. Its log is shown around, so what it says names no scan."""
    with pytest.raises(DataError, match=r"build_refused\.csv says which and why") as caught:
        store_manifest(manifest, SPEC, store, **options)
    told = pd.read_csv(manifest.parent / "build_refused.csv")
    names = [Path(path).name for path in told["path"]]
    assert not [name for name in names if name in str(caught.value)]
    return dict(zip(names, told["reason"], strict=True))


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64])
def test_a_row_without_a_content_hash_is_refused(manifest: Path, tmp_path: Path, wrong: str) -> None:
    edit(manifest, content_hash=wrong)
    reasons = refusals(manifest, tmp_path / "store").values()
    assert all(re.search("content_hash is .* 64 hex digits; `fewlabel data", reason) for reason in reasons)


def test_a_run_names_all_bad_rows_at_once(manifest: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "b.nii", 6, 7, 8, seed=5)
    (tmp_path / "scans" / "a.nii").unlink()
    with pytest.raises(DataError, match=r"manifest\.csv: 2 of its scans cannot be used \(row 1, 2\)"):
        store_manifest(manifest, SPEC, tmp_path / "store")
    reasons = refusals(manifest, tmp_path / "store")
    assert "no such scan" in reasons["a.nii"] and "changed since the manifest was written" in reasons["b.nii"]
    assert not list((tmp_path / "store").glob("*.json"))


def test_scans_have_as_many_channels_as_the_encoder_takes(manifest: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "c.nii", 6, 7, 8, 3)
    list_scans(tmp_path)
    reasons = refusals(manifest, tmp_path / "store", channels=1)
    assert list(reasons) == ["c.nii"] and "the scan has 3 channels where 1 are wanted; a 4-D file" in reasons["c.nii"]
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    rows.tail(1).to_csv(manifest, index=False)
    assert store_manifest(manifest, SPEC, tmp_path / "store")[0][0].num_channels == 3
    assert "the scan has 3 channels" in refusals(manifest, tmp_path / "store", channels=1)["c.nii"]  # stored already


def test_a_run_reads_each_header_of_the_store_once(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    store_manifest(manifest, SPEC, tmp_path / "store")
    read: list[str] = []
    really = store_module.read_header
    monkeypatch.setattr(store_module, "read_header", lambda path: read.append(path.stem) or really(path))
    stored, rows = store_manifest(manifest, SPEC, tmp_path / "store", channels=1)
    assert [scan.shape for scan in stored] == [(6, 7, 8), (6, 7, 8)]
    assert sorted(read) == sorted(rows["key"])


def test_a_manifest_in_a_folder_that_takes_no_file_is_built_all_the_same(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "sources.jsonl").symlink_to(tmp_path / "nowhere" / "sources.jsonl")
    assert build_store(manifest, SPEC, tmp_path / "store").refused.empty


# What is built again


def test_only_what_changed_is_built_again(manifest: Path, tmp_path: Path) -> None:
    store, scans = tmp_path / "store", tmp_path / "scans"
    assert made(build_store(manifest, SPEC, store)) == ["a.nii", "b.nii"]
    assert made(build_store(manifest, SPEC, store, verify=True)) == []

    save(scans / "b.nii", 6, 7, 8, seed=7)
    list_scans(tmp_path)
    assert made(build_store(manifest, SPEC, store)) == ["b.nii"]

    cropped = SPEC.model_copy(update={"crop_margin_mm": 3.0})
    assert made(build_store(manifest, cropped, store)) == ["a.nii", "b.nii"]
    assert made(build_store(manifest, SPEC, store)) == []

    next(store.glob("*.b2nd")).unlink()
    assert len(made(build_store(manifest, SPEC, store)) + made(build_store(manifest, cropped, store))) == 1


def test_a_source_that_changed_behind_the_manifest_is_refused(manifest: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build_store(manifest, SPEC, store)
    path = tmp_path / "scans" / "b.nii"
    status = path.stat()
    save(path, 6, 7, 8, seed=9)
    assert "changed since" in build_store(manifest, SPEC, store).refused["reason"].item()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if it had not changed
    assert build_store(manifest, SPEC, store).refused.empty
    refused = build_store(manifest, SPEC, store, verify=True).refused
    assert refused["row"].tolist() == [2] and "changed since" in refused["reason"].item()


def test_a_file_that_joins_a_dicom_folder_is_noticed(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "scans" / "dicom", [0.0, 3.0, 6.0])
    list_scans(tmp_path)
    manifest = tmp_path / "private" / "manifest.csv"
    assert build_store(manifest, SPEC, tmp_path / "store").refused.empty
    slices = sorted((tmp_path / "scans" / "dicom").iterdir())
    slices[0].unlink()
    assert len(build_store(manifest, SPEC, tmp_path / "store").refused) == 1


def test_what_is_stored_is_known_without_reading(tmp_path: Path, asked: list[str]) -> None:
    shown = tmp_path / "scans" / "a.nii"
    save(shown, 6, 7, 8)
    list_scans(tmp_path)
    for number in range(1, 4):
        (tmp_path / "scans" / f"{number}.nii").hardlink_to(shown)
    manifest = tmp_path / "private" / "manifest.csv"
    row = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    paths = sorted(map(str, (tmp_path / "scans").iterdir()))
    pd.concat([row.assign(path=path) for path in paths]).to_csv(manifest, index=False)
    assert len(made(build_store(manifest, SPEC, tmp_path / "store"))) == 1
    assert sorted(asked) == ["1.nii", "2.nii", "3.nii", "a.nii"]
    built = build_store(manifest, SPEC, tmp_path / "store")
    assert (built.rows["key"] != "").all() and not asked[4:]


# Bad input


def test_bad_rows_stop_nothing(manifest: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for number in range(8):
        save(scans / f"good{number}.nii.gz", 6, 7, 8, seed=10 + number)
    save(scans / "flat.nii", 6, 7, 8, seed=30)
    list_scans(tmp_path)
    content = bytearray((scans / "good3.nii.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (scans / "good3.nii.gz").write_bytes(content)
    nib.save(nib.Nifti1Image(np.full((6, 7, 8), 3, np.float32), np.eye(4)), scans / "flat.nii")
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    own_hash = content_hash([scans / "flat.nii"])
    rows.loc[rows["path"].str.endswith("flat.nii"), "content_hash"] = own_hash
    broken_hash = content_hash([scans / "good3.nii.gz"])
    rows.loc[rows["path"].str.endswith("good3.nii.gz"), "content_hash"] = broken_hash
    rows.to_csv(manifest, index=False)

    result = CliRunner().invoke(app, ["data", "build", str(manifest), "spacing_mm=[1,1,1]"])
    assert result.exit_code == 3, result.output
    assert "9 scans, 9 of them new" in result.output
    listed = pd.read_csv(tmp_path / "private" / "build_refused.csv")
    reasons = {Path(path).name: reason for path, reason in listed.itertuples(index=False)}
    assert reasons.keys() == {"good3.nii.gz", "flat.nii"}
    assert "one intensity only" in reasons["flat.nii"]
    assert stat.S_IMODE((tmp_path / "private" / "build_refused.csv").stat().st_mode) == 0o600
    again = CliRunner().invoke(app, ["data", "build", str(manifest), "spacing_mm=[1,1,1]"])
    assert again.exit_code == 3 and "9 scans, 0 of them new" in again.output


def test_a_full_disk_stops_all(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    with pytest.raises(DiskError, match="cannot store a scan"):
        build_store(manifest, SPEC, tmp_path / "store")


def test_no_identifier_reaches_the_store(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "Doe_Jane.nii", 6, 7, 8)
    list_scans(tmp_path)
    build_store(tmp_path / "private" / "manifest.csv", SPEC, tmp_path / "store")
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(files) >= 2
    for path in files:
        for word in (b"Doe", b"Jane", b"scans", str(tmp_path).encode()):
            assert word not in path.name.encode() + path.read_bytes()


@pytest.mark.parametrize(
    ("modality", "lowest", "intensity", "reason"),
    [
        ("CT", 0, "modality", "is CT without a voxel below -200"),
        ("MR", -1000, "modality", "is MR, but .* taken for CT; export it again"),
        ("MR", 0, "window", "is MR, but .* taken for CT; intensity=modality"),
        ("CT", -1000, "modality", ""),
        ("", -1000, "modality", ""),
        ("MR", 0, "modality", ""),
        ("CT", 0, "window", ""),
    ],
)
def test_modality_and_intensities_must_not_contradict(
    tmp_path: Path, modality: str, lowest: int, intensity: str, reason: str
) -> None:
    (tmp_path / "scans").mkdir()
    array = np.linspace(lowest, 800, 6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scans" / "a.nii")
    manifest = list_scans(tmp_path)
    edit(manifest, modality=modality)
    built = build_store(manifest, SPEC.model_copy(update={"intensity": intensity}), tmp_path / "store")
    assert (len(built.refused), len(built.made)) == ((1, 0) if reason else (0, 1))
    if reason:
        assert re.search(reason, built.refused["reason"].item())


def test_a_ct_that_would_lose_its_lungs_is_warned_of(manifest: Path, tmp_path: Path, caplog) -> None:
    edit(manifest, modality=["CT", "MR"])
    with caplog.at_level("WARNING", logger="fewlabel"):
        build_store(manifest, SPEC, tmp_path / "store")
    assert "1 scans are CT, and lose what is below 0 HU" in caplog.text


def killed_by_a(path: str, *others: object) -> dict[str, object]:
    if path.endswith("a.nii"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return store_scan(path, *others)


def test_a_scan_that_crashes_its_reader_costs_itself_alone(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build_module, "store_scan", killed_by_a)
    built = build_store(manifest, SPEC, tmp_path / "store")
    assert made(built) == ["b.nii"]
    assert built.refused["row"].tolist() == [1] and built.refused["reason"].item().startswith("crashed the reader")


# Memory


@pytest.mark.parametrize("form", ["frames", "whole", "float64", "labelled"])
@pytest.mark.parametrize("spacing_mm", [1.0, 1.01])
@pytest.mark.parametrize("spec", [{}, {"intensity": "zscore"}, {"foreground": "otsu", "crop_margin_mm": 2.0}])
def test_a_scan_takes_room_for_two(tmp_path: Path, form: str, spacing_mm: float, spec: dict[str, object]) -> None:
    side = 112
    array = ndimage.zoom(np.random.default_rng([3]).random((14, 14, 14), np.float32), 8, order=1) - 0.3
    array = np.maximum(array * 1000, 0).astype(np.float64 if form == "float64" else np.float32)
    array = array if form == "float64" else np.rint(array)
    path, labels = tmp_path / "scan", ""
    if form == "frames":
        write_series(Volume(array[None], np.eye(4)), path, multiframe=True)
    else:
        path = tmp_path / "scan.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    if form == "labelled":
        labels = str(tmp_path / "labels.nii.gz")
        nib.save(nib.Nifti1Image((array > 200).astype(np.float64), np.eye(4)), labels)
    preprocessing = Preprocessing(spacing_mm=(spacing_mm,) * 3, **spec)
    known = content_hash(scan_files(str(path)))
    tracemalloc.start()
    made = build_module.store_scan(str(path), known, "", labels, preprocessing, tmp_path / "store", None)
    peak = tracemalloc.get_traced_memory()[1] / (4 * side**3)
    tracemalloc.stop()
    assert "made" in made, made
    has_fractions = form in ("frames", "float64")  # these need float32 on both grids, which are nearly one
    assert peak < (2.1 if has_fractions and spacing_mm > 1 else 1.85)


# Label maps, the plan, the command


def test_label_maps_travel_and_have_keys_of_their_own(manifest: Path, tmp_path: Path) -> None:
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[2:4, 3:, 5] = 7
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "masks" / "b_seg.nii")
    store = VolumeStore(tmp_path / "store")
    plain = build_store(manifest, SPEC, store.folder).rows["key"]
    rule = "{folder}/../masks/{name}_seg.nii"
    with_labels = build_store(manifest, SPEC, store.folder, label_maps=rule)
    labelled = with_labels.rows["key"]
    assert (plain == labelled).tolist() == [True, False] and made(with_labels) == ["b.nii"]
    stored = store.get(labelled[1])
    assert stored.has_labels and not store.get(labelled[0]).has_labels
    np.testing.assert_array_equal(stored.labels((0, 0, 0), (6, 7, 8)), mask)
    mask[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "masks" / "b_seg.nii")
    changed = build_store(manifest, SPEC, store.folder, label_maps=rule).rows["key"]
    assert changed[1] not in (plain[1], labelled[1])
    assert store.get(changed[1]).labels((0, 0, 0), (1, 1, 1)) == 1


def test_a_plan_foresees_size_and_leaves_nothing(tmp_path: Path) -> None:
    for seed in range(12):
        save(tmp_path / "scans" / f"{seed}.nii", 30 + 2 * seed, 40, 50, seed=seed)
    list_scans(tmp_path)
    manifest, store = tmp_path / "private" / "manifest.csv", tmp_path / "store"
    before = sorted(tmp_path.rglob("*"))
    plan = plan_store(manifest, SPEC, store)
    assert (plan.num_scans, plan.num_left, plan.num_sampled) == (12, 12, 5)
    assert sorted(tmp_path.rglob("*")) == before
    assert plan.float_bytes == sum((30 + 2 * seed) * 40 * 50 * 4 for seed in range(12))
    assert plan.seconds is not None and plan.seconds > 0
    build_store(manifest, SPEC, store)
    real = sum(path.stat().st_size for path in store.glob("*.b2nd"))
    assert plan.num_bytes == pytest.approx(real, rel=0.1)
    assert plan_store(manifest, SPEC, store).num_left == 0


def test_the_command_takes_a_recipes_configuration(manifest: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("output: runs/x\npreprocessing: {spacing_mm: [1, 1, 1]}\n")
    result = CliRunner().invoke(app, ["data", "build", str(manifest), "-c", str(file), "--plan"])
    assert result.exit_code == 0, result.output
    assert "about" in result.output and "of float32's" in result.output
    assert not (tmp_path / "private" / "store").exists()
    assert CliRunner().invoke(app, ["data", "build", str(manifest), "-c", str(file)]).exit_code == 0
    expected = store_manifest(manifest, SPEC, tmp_path / "elsewhere")[1]["key"]
    assert {f"{key}.json" for key in expected} == {path.name for path in (tmp_path / "private/store").glob("*.json")}
    wrong = CliRunner().invoke(app, ["data", "build", str(manifest), "spacing=1"])
    assert wrong.exit_code == 2
