"""Positive pairs: each policy gives what it says, again and again, and the overlap is what counting finds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from toolkit.errors import ConfigError
from toolkit.scans import PatchBatches, StoredVolume, ViewConfig, Volume, VolumeStore
from toolkit.scans.crops import Centres, CropConfig
from toolkit.scans.pairs import (
    NeighbouringCrops,
    OverlappingCrops,
    PairConfig,
    Place,
    Rows,
    SameAnatomy,
    SameCrop,
    SameSubject,
    overlap_shares,
)
from toolkit.scans.patches import world_positions
from toolkit.scans.sampler import SamplerConfig

PATCH = 8
STILL = ViewConfig(
    patch_size=PATCH, shift_voxels=0, rotation_degrees=0, zoom=1, flip_probability=(0, 0, 0)
)  # crops as they lie


@pytest.fixture
def stored(tmp_path: Path) -> list[StoredVolume]:
    """Four scans on grids of their own, which share a world, of two subjects in two sessions each."""
    store, scans = VolumeStore(tmp_path), []
    for number in range(4):
        shape = (30 + number, 34, 32 - number)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        affine[:3, 3] = [-30 - 2 * number, 4.0 * number, 10 + 0.5 * number]
        array = np.random.default_rng([number]).random((1, *shape)).astype(np.float32)
        array[:, :6] = 0
        scans.append(store.put(f"v{number}", Volume(array, affine)))
    return scans


def rows_of(stored: Sequence[StoredVolume], sessions: Sequence[str] = ("1", "2", "1", "2")) -> Rows:
    return Rows(Centres(stored, CropConfig(), 0), ["a", "a", "b", "b"], sessions)


def partners(policy: PairConfig, rows: Rows, count: int = 60) -> list[tuple[Place, Place]]:
    pairs = []
    for number in range(count):
        scan = number % 4
        place = Place(scan, rows.centres.centre(scan, number))
        pairs.append((place, policy.partner(place, rows, PATCH, np.random.default_rng([number]))))
    return pairs


def counted(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Voxels of the first crop whose place in the scan lies within half a voxel of the second crop's grid."""
    voxels = np.concatenate([np.indices((size,) * 3).reshape(3, -1), np.ones((1, size**3))])
    whole = np.vstack([second, [0, 0, 0, 1]])
    there = np.linalg.solve(whole, np.vstack([first @ voxels, np.ones(size**3)]))[:3]
    return float(((there >= -0.5) & (there < size - 0.5)).all(axis=0).mean())


@pytest.mark.parametrize("views", [STILL, ViewConfig(patch_size=PATCH), ViewConfig(patch_size=11, zoom=1.5)])
def test_the_overlap_of_a_batch_is_what_counting_finds(stored: list[StoredVolume], views: ViewConfig) -> None:
    batches = PatchBatches(stored, views, 32, 5, pairs=OverlappingCrops(overlap=(0.1, 0.9)))
    first, second = (view.matrices for view in batches._draw(1, slice(None), [0, 1]))
    expected = [counted(a, b, views.patch_size) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(batches.batch(1)["overlap"], expected, atol=1.5 / views.patch_size**3)
    assert np.std(expected) > 0.1


def test_overlap_follows_the_share_and_the_boxes(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, STILL, 64, 5, pairs=OverlappingCrops(overlap=(0.3, 0.6)))
    batch = batches.batch(0)
    overlap, boxes = batch["overlap"].numpy(), batch["boxes"].numpy()
    common = (boxes[:, :, 1].min(axis=1) - boxes[:, :, 0].max(axis=1)).clip(0).prod(axis=1)
    np.testing.assert_allclose(overlap, common / PATCH**3, atol=1e-6)
    assert overlap.min() > 0.15 and overlap.max() < 0.75 and np.median(overlap) == pytest.approx(0.45, abs=0.1)


def test_two_views_of_the_same_place_overlap_wholly() -> None:
    matrices = np.tile(np.hstack([np.eye(3), [[4.0], [7.0], [9.0]]]), (3, 1, 1))
    assert overlap_shares(matrices, matrices, PATCH).tolist() == [1, 1, 1]
    assert overlap_shares(matrices, matrices + 40 * np.eye(3, 4, 3), PATCH).tolist() == [0, 0, 0]


def test_same_crop(stored: list[StoredVolume]) -> None:
    assert all(first is second for first, second in partners(SameCrop(), rows_of(stored)))
    batch = PatchBatches(stored, STILL, 8, 0).batch(0)
    assert "overlap" not in batch


def test_neighbours_lie_side_by_side_on_the_foreground(stored: list[StoredVolume]) -> None:
    rows = rows_of(stored)
    foregrounds = [volume.foreground() for volume in stored]
    for first, second in partners(NeighbouringCrops(distance=(1.0, 1.4)), rows):
        assert first.scan == second.scan
        assert foregrounds[second.scan][tuple(second.centre)]
        assert 1.0 <= np.abs(first.centre - second.centre).max() / PATCH <= 1.4


def test_same_anatomy_is_the_same_world_position_in_another_subject(stored: list[StoredVolume]) -> None:
    rows = rows_of(stored)
    anchors = [Place(number % 4, rows.centres.centre(number % 4, number)) for number in range(60)]
    found = SameAnatomy().partners(anchors, rows, np.random.default_rng([0]))
    pairs = [(first, second) for first, second in zip(anchors, found, strict=True) if first is not second]
    assert len(pairs) > 50
    for first, second in pairs:
        here, there = (world_positions(stored[p.scan].affine, p.centre[None])[0] for p in (first, second))
        assert np.abs(here - there).max() <= 1.0  # half a voxel of 2 mm
        assert first.scan // 2 != second.scan // 2


def test_a_position_that_no_other_scan_has_stays_with_its_own(stored: list[StoredVolume]) -> None:
    rows = rows_of(stored)
    place = Place(0, np.array([29, 0, 0]))  # x of 28 mm, z of 10: below the grids of subject b
    assert SameAnatomy().partners([place], rows, np.random.default_rng([0])) == [place]


@pytest.mark.parametrize(("num_places", "most"), [(8, 1), (12, 2), (16, 2)])
def test_same_anatomy_shows_as_many_subjects_as_there_are(tmp_path: Path, num_places: int, most: int) -> None:
    """Each batch has one first crop of a subject; its second crops are of those that it shows least."""
    array = np.random.default_rng([7]).random((1, 12, 12, 12)).astype(np.float32)
    volumes = [VolumeStore(tmp_path).put("one", Volume(array, np.eye(4)))] * 16  # sixteen people who look alike
    batches, again = (PatchBatches(volumes, STILL, num_places, 0, pairs=SameAnatomy()) for _ in range(2))
    chosen = []
    for step in range(6):
        first, second = (view.places for view in batches._draw(step, slice(None), [0, 1]))
        assert all(a.scan != b.scan and (a.centre == b.centre).all() for a, b in zip(first, second, strict=True))
        assert np.bincount([place.scan for place in [*first, *second]]).max() == most
        chosen.append([place.scan for place in second])
        parts = [again._draw(step, slice(row, row + 4), [1])[0].places for row in range(0, num_places, 4)]
        assert [place.scan for part in parts for place in part] == chosen[-1]  # however the batch is cut
    assert len(set(map(tuple, chosen))) == 6


def test_same_anatomy_looks_at_a_batch_once_however_it_is_cut(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gradient caching a step is hundreds of portions, twice."""
    calls: list[int] = []
    really = SameAnatomy.partners
    monkeypatch.setattr(
        SameAnatomy, "partners", lambda self, places, *of: calls.append(len(places)) or really(self, places, *of)
    )
    batches = PatchBatches(stored, STILL, 8, 0, pairs=SameAnatomy(), num_views=3)
    for step in (0, 1, 0):
        for shard in [*range(4), *range(4)]:
            batches.prepare(step, shard, 4)
    assert calls == [8] * 6  # two other views of each of three steps


def test_same_subject_at_another_time(stored: list[StoredVolume]) -> None:
    rows = rows_of(stored)
    for position in ("world", "anywhere"):
        pairs = partners(SameSubject(position=position), rows)
        others = [(first, second) for first, second in pairs if first is not second]
        assert len(others) > 50
        assert all({first.scan, second.scan} in ({0, 1}, {2, 3}) for first, second in others)
        if position == "world":
            for first, second in others:
                here, there = (world_positions(stored[p.scan].affine, p.centre[None])[0] for p in (first, second))
                assert np.abs(here - there).max() <= 1.0
    alone = partners(SameSubject(), rows_of(stored, ("1", "1", "1", "2")), 40)
    assert all(first is second for first, second in alone if first.scan < 2)


def test_views_replay_for_every_policy(stored: list[StoredVolume]) -> None:
    for policy in (SameCrop(), OverlappingCrops(), NeighbouringCrops(), SameAnatomy(), SameSubject()):
        settings = {
            "subjects": ["a", "a", "b", "b"], "sessions": ["1", "2", "1", "2"], "pairs": policy,
            "sampler": SamplerConfig(crops_per_scan=5),
        }  # fmt: skip
        batches = PatchBatches(stored, ViewConfig(patch_size=PATCH, made_on="workers"), 8, 2, **settings)
        batch = batches.batch(3)
        again = PatchBatches(stored, ViewConfig(patch_size=PATCH, made_on="workers"), 8, 2, **settings)
        for view in (1, 0):
            np.testing.assert_array_equal(again.views(3, view, slice(3, 6)), batch[f"view{view}"][3:6])


def test_impossible_policies_are_refused_by_name(stored: list[StoredVolume]) -> None:
    with pytest.raises(ConfigError, match=r"pairs\.name: same_anatomy .*two subjects"):
        PatchBatches(stored[:1], STILL, 4, 0, pairs=SameAnatomy())
    with pytest.raises(ConfigError, match=r"pairs\.name: same_subject .*session"):
        PatchBatches(stored, STILL, 4, 0, subjects=["a", "a", "b", "b"], pairs=SameSubject())
    policy = TypeAdapter(PairConfig)
    assert policy.validate_python({"name": "overlapping", "overlap": [0.5, 0.5]}) == OverlappingCrops(
        overlap=(0.5, 0.5)
    )
    for wrong in ({"name": "overlaping"}, {"name": "overlapping", "overlap": [0.5, 0.2]}):
        with pytest.raises(ValidationError):
            policy.validate_python(wrong)
