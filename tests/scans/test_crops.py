"""Crops are centred where the shares say, from lists that lie beside the scan."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from toolkit.errors import ConfigError
from toolkit.scans import PatchBatches, StoredVolume, ViewConfig, Volume, VolumeStore
from toolkit.scans import crops as module
from toolkit.scans.crops import Centres, CropConfig
from toolkit.scans.labels import Points

NUM_CROPS = 3000


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """A scan of which a twentieth is foreground, and labels: a large class and one of 3 voxels."""
    array = np.zeros((1, 40, 40, 40), np.float32)
    array[0, 10:20, 10:20, 5:37] = 0.5
    labels = np.zeros((40, 40, 40), np.int16)
    labels[30:36, 2:8, 4:9], labels[20, 20, 20:23] = 3, 8
    return array, labels


@pytest.fixture
def labelled(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> StoredVolume:
    return VolumeStore(tmp_path).put("labelled", Volume(arrays[0], np.eye(4)), arrays[1])


@pytest.fixture
def plain(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> StoredVolume:
    return VolumeStore(tmp_path).put("plain", Volume(arrays[0], np.diag([2.0, 2.0, 2.0, 1.0])))


def drawn(centres: Centres, scan: int = 0) -> np.ndarray:
    return np.array([centres.centre(scan, crop) for crop in range(NUM_CROPS)])


def test_shares_of_labels_air_and_foreground(labelled: StoredVolume, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    array, labels = arrays
    found = drawn(Centres([labelled], CropConfig(label_share=0.4, random_share=0.2), 0))
    values, inside = labels[tuple(found.T)], array[0][tuple(found.T)] > 0
    assert (values > 0).mean() == pytest.approx(0.4, abs=0.03)
    assert (values == 8).sum() == pytest.approx((values == 3).sum(), rel=0.15)  # each class alike, however small
    assert inside.mean() == pytest.approx(0.4 + 0.2 * 0.05, abs=0.03)
    assert len(np.unique(found, axis=0)) > 1000


def test_without_shares_all_lie_on_the_foreground_any_voxel_alike(
    labelled: StoredVolume, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    found = drawn(Centres([labelled], CropConfig(), 0))
    assert (arrays[0][0][tuple(found.T)] > 0).all()
    np.testing.assert_allclose(found.mean(axis=0), [14.5, 14.5, 20.5], atol=0.6)


def test_a_scan_without_labels_gives_foreground(
    labelled: StoredVolume, plain: StoredVolume, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    found = drawn(Centres([labelled, plain], CropConfig(label_share=1.0), 0), scan=1)
    assert (arrays[0][0][tuple(found.T)] > 0).all()
    with pytest.raises(ConfigError, match=r"crops\.label_share: no scan has"):
        Centres([plain], CropConfig(label_share=0.1), 0)


def test_points_are_classes_in_world_positions(plain: StoredVolume) -> None:
    positions_mm = np.array([[60.0, 10.0, 21.0], [12.0, 61.0, 4.0], [12.0, 70.0, 4.0], [900.0, 0.0, 0.0]])
    points = Points(positions_mm, np.array(["nodule", "cyst", "cyst", "cyst"]))
    found = drawn(Centres([plain], CropConfig(label_share=1.0), 0, [points]))
    assert {tuple(centre) for centre in found} == {(30, 5, 10), (6, 30, 2), (6, 35, 2)}
    assert (found[:, 0] == 30).mean() == pytest.approx(0.5, abs=0.05)  # each label alike


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="together above 1"):
        CropConfig(label_share=0.7, random_share=0.4)


def test_a_scan_is_looked_through_once_for_all_processes_and_runs(
    labelled: StoredVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn(Centres([labelled], CropConfig(label_share=0.5), 1))
    [kept] = labelled.path.parent.glob("*.npz")
    monkeypatch.setattr(module, "find_candidates", lambda volume: pytest.fail("looked through again"))
    np.testing.assert_array_equal(drawn(Centres([labelled], CropConfig(label_share=0.5), 1)), before)
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: made again
    np.testing.assert_array_equal(drawn(Centres([labelled], CropConfig(label_share=0.5), 1)), before)
    assert len(kept.read_bytes()) > 1000


def test_the_choice_is_that_of_earlier_versions_whose_files_lie_in_stores(
    labelled: StoredVolume, arrays: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each class's voxels in the order of the array, thinned by one stream: foreground, then class by class."""
    monkeypatch.setattr(module, "NUM_KEPT", 100)
    array, labels = arrays
    rng, expected = np.random.default_rng([0]), []
    for mask, count in ((array[0] > 0, 100), (labels == 3, 50), (labels == 8, 50)):
        voxels = np.argwhere(mask)
        expected.append(voxels[rng.choice(len(voxels), min(count, len(voxels)), replace=False)])
    found = module.find_candidates(labelled)
    np.testing.assert_array_equal(found.foreground, expected[0])
    np.testing.assert_array_equal(found.labelled, np.concatenate(expected[1:]))
    assert found.classes.tolist() == [3] * 50 + [8] * 3


def test_a_scan_that_is_all_foreground_takes_little_memory(tmp_path: Path) -> None:
    array = np.ones((1, 96, 96, 96), np.float32)
    volume = VolumeStore(tmp_path).put("full", Volume(array, np.eye(4)))
    module.find_candidates(volume)  # what the first call loads is not counted
    tracemalloc.start()
    try:
        module.find_candidates(volume)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * array.size  # three indices of eight bytes for each voxel


def test_a_store_that_cannot_be_written_is_read_all_the_same(
    plain: StoredVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(module, "write_atomically", refused)
    assert len(drawn(Centres([plain], CropConfig(), 0))) == NUM_CROPS


def test_few_scans_are_kept_at_hand(plain: StoredVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    centres = Centres([plain] * 5, CropConfig(), 0)
    first = [centres.centre(scan, 7).tolist() for scan in range(5)]
    assert len(centres._cached) == 2
    assert [centres.centre(scan, 7).tolist() for scan in range(5)] == first
    assert len({tuple(centre) for centre in first}) > 1  # scans that are alike still get crops of their own


def test_label_aware_crops_reach_the_batch(labelled: StoredVolume, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    batches = PatchBatches([labelled], ViewConfig(patch_size=8), 64, 0, crops=CropConfig(label_share=1.0))
    _, samples = batches.samples(0)
    centres = np.array([batches._place(sample).centre for sample in samples.tolist()])
    assert (arrays[1][tuple(centres.T)] > 0).all()
