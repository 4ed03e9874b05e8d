"""From what a PACS exports to batches of views and an encoder, by the commands that a user types.

What was planted on the way in is looked for on the way out: a lesion at a known place in the world, and names that must
stay in the private folder.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from toolkit.scans import PatchBatches, Preprocessing, StoredVolume, VolumeStore, build_store
from toolkit.scans.sampler import SamplerConfig
from toolkit.scans.views import ViewConfig

ROOT = Path(__file__).parent.parent.parent
SPACING_MM = 4.0
SPEC = ["spacing_mm=[4, 4, 4]", "foreground=otsu"]  # air is noise here, as from a real scanner
PLANTED_TAGS = [
    "PatientID", "PatientName", "AccessionNumber", "InstitutionName", "StudyInstanceUID", "SeriesInstanceUID",
    "SOPInstanceUID", "FrameOfReferenceUID", "PatientBirthDate", "StudyDate", "ReferringPhysicianName",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands have run; `said` has what they printed."""
    here = tmp_path_factory.mktemp("hospital")

    def fewlabel(*arguments: str, code: int = 0) -> None:
        outcome = subprocess.run(
            [sys.executable, "-c", "from toolkit.cli import main; main()", *arguments],
            cwd=here,
            env=os.environ | {"PYTHONPATH": str(ROOT), "FEWLABEL_DATA": str(here / "data"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        with (here / "said").open("a") as file:
            file.write(f"\n$ {' '.join(arguments[:2])}\n{outcome.stdout}{outcome.stderr}")
        assert outcome.returncode == code, outcome.stdout + outcome.stderr

    fewlabel(
        "data", "synthesize", "--subjects", "6", "--sites", "2", "--brain", "parametric", "--spacing", "4",
        "--seed", "11", "--out", "cohort", "names_in_files=true", "missing=0.3", "lesion.volume_ml=[8, 16]",
    )  # fmt: skip
    fewlabel("data", "audit", "cohort/scans", "--out", "private", "--link", "cohort/labels.csv", "--on", "accession")
    fewlabel("data", "split", "private/manifest.csv", "--out", "private/split", "--test-share", "0.34")
    for side in ("train", "test"):
        fewlabel(
            "data", "build", f"private/split/{side}.csv", "--out", "store", "--label-maps", "cohort/labels.csv",
            *SPEC,
        )  # fmt: skip
    (here / "pretrain.yaml").write_text(
        "output: run\nmanifest: private/split/train.csv\nheld_out: [private/split/test.csv]\nstore: store\n"
        "label_maps: cohort/labels.csv\nviews: {patch_size: 16}\nencoder: {width: 4}\n"
        "training: {num_steps: 3, batch_size: 4, num_workers: 0}\n"
    )
    pretrain = ["run", "scan_pretrain", "--config", "pretrain.yaml", *(f"preprocessing.{key}" for key in SPEC)]
    stored = sorted((here / "store").glob("*.json"))
    fewlabel(*pretrain)
    assert sorted((here / "store").glob("*.json")) == stored, "the run stored again what had been built"
    fewlabel(*pretrain, "manifest=private/manifest.csv", "output=leak", code=1)
    return here


@pytest.fixture(scope="module")
def truth(place: Path) -> pd.DataFrame:
    return pd.read_csv(place / "cohort/truth.csv", keep_default_na=False).set_index("path")


@pytest.fixture(scope="module")
def sides(place: Path) -> dict[str, pd.DataFrame]:
    """The manifests of both sides with the store's keys, and what is true of each scan."""
    spec = Preprocessing(spacing_mm=(SPACING_MM,) * 3, foreground="otsu")
    found = {}
    for side in ("train", "test"):
        manifest = place / "private/split" / f"{side}.csv"
        built = build_store(manifest, spec, place / "store", label_maps=str(place / "cohort/labels.csv"))
        assert len(built.made) == 0  # the command has stored all of it
        folders = [Path(path.partition("#")[0]).resolve() for path in built.rows["path"]]
        found[side] = built.rows.assign(
            where=[folder.relative_to((place / "cohort").resolve()).as_posix() for folder in folders]
        )
    return found


def test_every_scan_arrives_with_its_label(sides: dict[str, pd.DataFrame], truth: pd.DataFrame) -> None:
    rows = pd.concat(sides.values())
    assert sorted(rows["where"]) == sorted(truth.index)
    true = truth.loc[rows["where"]]
    assert rows["label"].tolist() == true["label"].tolist()
    assert rows["sequence"].tolist() == true["sequence"].tolist()
    for ours, known in (("subject", "subject"), ("study", "accession"), ("site", "site")):
        pairs = set(zip(rows[ours], true[known], strict=True))
        assert len(pairs) == rows[ours].nunique() == true[known].nunique()


def test_no_subject_is_on_both_sides_nor_can_be_pretrained_on(place: Path, sides: dict[str, pd.DataFrame]) -> None:
    train, test = (set(sides[side]["subject"]) for side in ("train", "test"))
    assert len(train) == 4 and len(test) == 2
    assert not train & test
    refusal = (place / "said").read_text().split("$ run scan_pretrain")[-1]
    assert "error:" in refusal and "Traceback" not in refusal
    assert any(subject in refusal for subject in test)
    assert not (place / "leak/encoder").exists()


def test_a_lesion_is_where_it_was_planted(place: Path, sides: dict[str, pd.DataFrame], truth: pd.DataFrame) -> None:
    rows, store, seen = pd.concat(sides.values()), VolumeStore(place / "store"), 0
    for row in rows.itertuples():
        true, stored = truth.loc[row.where], store.get(row.key)
        assert stored.has_labels == (true["mask"] != "")
        if not stored.has_labels:
            continue
        seen += 1
        mask = stored.labels((0, 0, 0), stored.shape) > 0
        centre = (stored.affine @ [*np.argwhere(mask).mean(0), 1])[:3]
        planted = true[["centre_r_mm", "centre_a_mm", "centre_s_mm"]].to_numpy(float)
        assert np.abs(centre - planted).max() < SPACING_MM
        assert mask.sum() * SPACING_MM**3 / 1000 == pytest.approx(float(true["mask_ml"]), rel=0.25)
        # It is bright, and so the intensities lie where the mask does.
        shell = np.linalg.norm(np.argwhere(np.ones_like(mask)) - np.argwhere(mask).mean(0), axis=1).reshape(mask.shape)
        scan = stored.load().array[0]
        around = (shell * SPACING_MM < 30) & ~mask & (scan > 0)
        assert scan[mask].mean() > scan[around].mean()
    assert seen >= 3


def test_views_come_from_the_store_and_not_twice_from_one_subject(place: Path, sides: dict[str, pd.DataFrame]) -> None:
    rows, store = sides["train"], VolumeStore(place / "store")
    volumes = [store.get(key) for key in rows["key"]]
    assert all(isinstance(volume, StoredVolume) for volume in volumes)
    subjects, config = rows["subject"].tolist(), ViewConfig(patch_size=16, made_on="workers")

    def batches() -> PatchBatches:
        return PatchBatches(volumes, config, 4, 0, subjects=subjects, sampler=SamplerConfig(crops_per_scan=8))

    crops = batches()
    for step in range(3):
        batch = crops.batch(step)
        assert batch["view0"].shape == batch["view1"].shape == (4, 1, 16, 16, 16)
        for view in (batch["view0"], batch["view1"]):
            assert view.isfinite().all()
            assert view.std(dim=(1, 2, 3, 4)).min() > 0.01
        assert not (batch["view0"] == batch["view1"]).all()
        again = batches().batch(step)
        assert all((batch[name] == again[name]).all() for name in batch)
        whose = [subjects[sample // 8] for sample in crops.sample_ids(step)]
        assert len(set(whose)) == 4


def planted(place: Path) -> dict[bytes, str]:
    """Everything that would say who somebody is, as bytes, and where it was planted."""
    names: dict[bytes, str] = {}
    for path in (place / "cohort/scans").rglob("*.dcm"):
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=PLANTED_TAGS)
        for tag in PLANTED_TAGS:
            if value := str(data.get(tag, "")):
                names[value.encode()] = tag
    for name in [name for name, tag in names.items() if tag == "PatientName"]:
        names[re.split(rb"\^", name)[1]] = "family name"
    return names


def outside(place: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all that is not the private folder, its key's, or the hospital's own."""
    for path in sorted(place.rglob("*")):
        top = path.relative_to(place).parts[0]
        if top not in ("private", "cohort"):
            yield f"name of {path.name}", path.relative_to(place).as_posix().encode()
            if path.is_file():
                yield path.relative_to(place).as_posix(), path.read_bytes()
    yield "audit.html", (place / "private/audit.html").read_bytes()


def leaks(content: bytes, names: dict[bytes, str]) -> list[str]:
    return [tag for name, tag in names.items() if name in content]


def test_no_name_leaves_the_private_folder(place: Path) -> None:
    names = planted(place)
    assert {"PatientID", "PatientName", "family name", "AccessionNumber", "SOPInstanceUID"} <= set(names.values())
    # What is looked for can be found: the manifest holds paths, and paths hold names here.
    assert {"PatientID", "family name"} <= set(leaks((place / "private/manifest.csv").read_bytes(), names))
    found = {where: leaks(content, names) for where, content in outside(place)}
    assert {"said", "run/metrics.jsonl", "audit.html"} <= set(found)
    assert any(where.startswith("run/checkpoints/") for where in found)
    assert any(where.startswith("store/") for where in found)
    assert {where: tags for where, tags in found.items() if tags} == {}


def test_the_private_folder_is_the_owners_alone(place: Path) -> None:
    for folder in ("private", "private/split"):
        assert (place / folder).stat().st_mode & 0o077 == 0
    for path in (place / "private").rglob("*.csv"):
        assert path.stat().st_mode & 0o077 == 0, path.name
