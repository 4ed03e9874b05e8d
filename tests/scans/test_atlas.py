"""The atlas task on a made-up organ: roles, one mask for all, no subject on both sides."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from toolkit.cards import DataCard, load_card
from toolkit.errors import CardError
from toolkit.finetune.task import Task
from toolkit.scans import (
    AtlasTaskConfig,
    Preprocessing,
    RegisteredScans,
    Volume,
    atlas_task,
    read_registered,
    read_volume,
)
from toolkit.scans.atlas import common_grid
from toolkit.scans.fingerprints import fingerprint
from toolkit.scans.manifest import content_hash

CARD = """---
pretty_name: Made up
license: cc0-1.0
fewlabel:
  source: {{kind: path, path: {folder}}}
  reader:
    - {{format: volume, member: a.nii, subject: a, space: here}}
    - {{format: volume, member: mean.nii, subject: mean, population: average, space: here}}
    - {{format: volume, member: c.nii, subject: c, space: {space}}}
    - {{format: volume, member: atlas.nii, role: labels, labels_for: [a], space: here}}
  label_map: {{left: [[1, 3]], right: [7]}}
  split: {{unit: subject, test_subjects: [{test}]}}
  personal_data: {{status: none, consent: made up for the test}}
---
Made up.
"""


def made_up(folder: Path, test: str = "c", space: str = "here") -> list[tuple[DataCard, Path]]:
    """A bright cube of 24 mm in a head of 32 mm; the average shows the cube alone; all grids differ."""
    rng = np.random.default_rng([0])

    def save(name: str, size: int, spacing: float, value: object) -> None:
        affine = np.diag([spacing, spacing, spacing, 1])
        affine[:3, 3] = -spacing * (size - 1) / 2
        axis = np.abs((np.arange(size) - (size - 1) / 2) * spacing)
        far = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).max(axis=0)
        nib.save(nib.Nifti1Image(np.asarray(value(far), np.float32), affine), folder / name)

    def head(far: np.ndarray) -> np.ndarray:
        return np.where(far < 12, 100 + rng.normal(0, 5, far.shape), np.where(far < 16, 60.0, 0.0))

    def atlas(far: np.ndarray) -> np.ndarray:
        ids = np.where(np.arange(far.shape[0])[:, None, None] < far.shape[0] // 2, 2, 7) * np.ones(far.shape)
        return np.where(far < 10, ids, 0)

    save("a.nii", 40, 1.0, head)
    save("mean.nii", 26, 1.5, lambda far: np.where(far < 12, 100.0 + rng.normal(0, 1, far.shape), 0.0))
    save("c.nii", 21, 2.0, head)
    save("atlas.nii", 40, 1.0, atlas)
    card = folder / "made_up.md"
    card.write_text(CARD.format(folder=folder, test=test, space=space))
    return [(load_card(card), folder)]


@pytest.fixture
def registered(tmp_path: Path) -> RegisteredScans:
    return read_registered(made_up(tmp_path), Preprocessing())


def test_roles_come_from_the_card(registered: RegisteredScans) -> None:
    assert {scan.subject: scan.role for scan in registered.scans} == {
        "a": "pool",
        "mean": "pretraining",
        "c": "test",
    }
    assert registered.class_names == ("left", "right")


def test_all_scans_share_one_grid_and_one_mask(registered: RegisteredScans) -> None:
    inside = registered.mask.sum() * 8 / 24**3
    assert 0.8 < inside < 1.2  # the cube, without the head around it
    for scan in registered.scans:
        assert scan.volume.shape == registered.mask.shape
        assert (scan.volume.array[0][~registered.mask] == 0).all()
        assert scan.volume.spacing_mm == (2.0, 2.0, 2.0)
    assert (registered.classes[~registered.mask] == -1).all()


def test_labels_lie_where_the_atlas_has_them(registered: RegisteredScans, tmp_path: Path) -> None:
    fields = atlas_task(
        registered, AtlasTaskConfig(patch_size=8, pool_per_class=20, test_per_class=10, num_unlabelled=30)
    )
    for part, count in (("pool", 20), ("test", 10)):
        assert np.bincount(fields[f"{part}_labels"]).tolist() == [count, count]
        x = fields[f"{part}_positions"][:, 0]
        assert (x[fields[f"{part}_labels"] == 0] <= 0).all()  # ids 1-3 fill the low, left half
        assert (x[fields[f"{part}_labels"] == 1] >= 0).all()
    task = Task(**fields)
    assert set(task.pool_groups) == {"a"}
    assert set(task.test_groups) == {"c"}
    assert task.unlabelled.shape == (30, 1, 8, 8, 8)
    again = atlas_task(
        registered, AtlasTaskConfig(patch_size=8, pool_per_class=20, test_per_class=10, num_unlabelled=30)
    )
    assert Task(**again).digest() == task.digest()


def test_pretraining_never_sees_the_test_subject(registered: RegisteredScans, tmp_path: Path) -> None:
    stored = registered.store(tmp_path / "store", Preprocessing())
    by_role = {scan.role: scan.volume.array for scan in registered.scans}
    assert len(stored) == 2
    for volume, role in zip(stored, ("pool", "pretraining"), strict=True):
        np.testing.assert_allclose(volume.load().array, by_role[role], atol=1 / 4095)
    assert len(registered.store(tmp_path / "store", Preprocessing())) == 2
    assert len(list((tmp_path / "store").glob("*.json"))) == 2


def test_what_the_guard_needs_is_recorded_of_the_raw_files(registered: RegisteredScans, tmp_path: Path) -> None:
    seen, test = registered.seen("pool", "pretraining"), registered.seen("test")
    assert list(seen.subjects) == ["a", "mean"] and list(test.subjects) == ["c"]
    assert seen.content_hashes[0] == content_hash([tmp_path / "a.nii"])
    assert test.fingerprints[0] == fingerprint(read_volume(tmp_path / "c.nii"))
    assert len(set(seen.content_hashes + test.content_hashes)) == 3


def test_cards_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no scan of a test subject"):
        read_registered(made_up(tmp_path, test="nobody"), Preprocessing())
    with pytest.raises(CardError, match="must share one"):
        read_registered(made_up(tmp_path, space="elsewhere"), Preprocessing())


def test_the_common_grid_holds_every_voxel_and_sits_on_whole_multiples() -> None:
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = [-7.3, 2.0, 0.0]
    grid = common_grid([Volume(np.zeros((1, 5, 6, 7), np.float32), affine)], (2.0, 2.0, 2.0))
    assert grid.affine[:3, 3].tolist() == [-8, 2, 0]
    assert grid.shape == (5, 5, 6)  # to -0 (from -1.3), 10 (from 9.5) and 10 (from 9)


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("member: c.nii, subject: c,", "member: c.nii,", r"reader c\.nii: no subject; give it a pseudonym"),
        ("labels_for: [a], ", "", "labels_for names no scan"),
        ("labels_for: [a], ", "labels_for: [c], ", "labels_for names no scan"),
    ],
)
def test_a_card_that_leaves_something_out_is_told_what(tmp_path: Path, line: str, instead: str, message: str) -> None:
    made_up(tmp_path)
    path = tmp_path / "made_up.md"
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, instead))
    with pytest.raises(CardError, match=message):
        read_registered([(load_card(path), tmp_path)], Preprocessing())
