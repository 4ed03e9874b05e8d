"""Batches are a pure function of (seed, step)."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from toolkit.errors import ConfigError, DataError
from toolkit.scans import PatchBatches, StoredVolume, ViewConfig, Volume, VolumeStore, rendering
from toolkit.scans.crops import CropConfig
from toolkit.scans.pairs import OverlappingCrops
from toolkit.scans.rendering import Renderer
from toolkit.scans.sampler import SamplerConfig, SubjectSampler
from toolkit.scans.views import apply_parameters
from toolkit.training.step import ShardDataset, Shards

CONFIG = ViewConfig(patch_size=8, made_on="workers")
TEN = SamplerConfig(crops_per_scan=10)


@pytest.fixture(params=["kept whole", "read in crops"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small scans are kept, large ones are not: as if these were large."""
    if request.param == "read in crops":
        monkeypatch.setattr(rendering, "MAX_KEPT_BYTES", 0)


@pytest.fixture
def stored(tmp_path: Path, textured: np.ndarray) -> list[StoredVolume]:
    small = textured[:, :20, :30, :25]
    masked = [np.where(array > 0.5, array, 0) for array in (textured, small)]
    return [VolumeStore(tmp_path).put(f"v{n}", Volume(array, np.eye(4))) for n, array in enumerate(masked)]


@pytest.mark.usefixtures("memory")
def test_any_step_can_be_asked_for_in_any_order(stored: list[StoredVolume]) -> None:
    one = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN)
    steps = {step: one.batch(step) for step in (5, 0, 3)}
    other = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN, num_threads=2)
    for step in range(6):
        batch = other.batch(step)
        assert batch["view0"].shape == (6, 1, 8, 8, 8)
        if step in steps:
            assert torch.equal(batch["view0"], steps[step]["view0"])
            assert torch.equal(batch["view1"], steps[step]["view1"])
    assert not torch.equal(steps[0]["view0"], steps[0]["view1"])
    assert not torch.equal(steps[0]["view0"], PatchBatches(stored, CONFIG, 6, seed=4, sampler=TEN).batch(0)["view0"])


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("num_shards", [1, 2, 3, 6])
def test_parts_of_a_batch_are_the_batch_bit_for_bit(stored: list[StoredVolume], num_shards: int) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN)
    for step in (0, 3):  # step 3 reaches into the next epoch
        whole, parts = batches.batch(step), [batches.batch(step, shard, num_shards) for shard in range(num_shards)]
        assert all(len(part["view0"]) == 6 // num_shards for part in parts)
        for view in ("view0", "view1"):
            assert torch.equal(torch.cat([part[view] for part in parts]), whole[view])
        ids = [number for shard in range(num_shards) for number in batches.sample_ids(step, shard, num_shards)]
        assert ids == batches.samples(step)[1].tolist()
    assert batches.samples_per_epoch == 20


def test_a_part_reads_and_renders_its_own_rows_only(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "MAX_KEPT_BYTES", 0)
    batches = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN)
    batches.batch(0)
    reads: list[object] = []
    crop = StoredVolume.crop
    monkeypatch.setattr(StoredVolume, "crop", lambda *args: reads.append(args) or crop(*args))
    batches.batch(0, 1, 3)
    assert len(reads) == 2  # two samples; both views of each come from one read


def test_a_step_is_dealt_once_however_many_portions_and_views_it_has(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN, pairs=OverlappingCrops(), num_views=3)
    dealt: list[int] = []
    rows = SubjectSampler.rows
    monkeypatch.setattr(SubjectSampler, "rows", lambda self, step: dealt.append(step) or rows(self, step))
    for step in (0, 1, 0):
        for shard in range(3):
            batches.batch(step, shard, 3)
            batches.sample_ids(step, shard, 3)
    assert dealt == [0, 1, 0]


def test_a_batch_that_does_not_part_evenly_is_refused(stored: list[StoredVolume]) -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: 6 .* 4 equal parts"):
        PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN).batch(0, 0, 4)


def test_one_view_is_the_first_of_two(stored: list[StoredVolume]) -> None:
    settings = {"sampler": TEN, "pairs": OverlappingCrops()}
    one, two = (PatchBatches(stored, CONFIG, 6, seed=3, num_views=n, **settings).batch(3) for n in (1, 2))
    assert one.keys() == {"view0", "draws"}
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_method_has_a_number_of_its_own_for_each_sample(stored: list[StoredVolume]) -> None:
    """The same in every portion, process and replay; another in another epoch."""
    batches, seen = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN), {}
    for step in range(8):
        draws = batches.batch(step)["draws"]
        assert draws.dtype == torch.int64
        assert torch.equal(torch.cat([batches.batch(step, shard, 3)["draws"] for shard in range(3)]), draws)
        for epoch, sample, draw in zip(*batches.samples(step), draws.tolist(), strict=True):
            seen[int(epoch), int(sample)] = draw
    assert len(set(seen.values())) == len(seen) == 48
    assert 0.3 < np.mean(list(seen.values())) / 2**53 < 0.7
    assert PatchBatches(stored, CONFIG, 6, seed=4, sampler=TEN).batch(0)["draws"][0] not in seen.values()


def test_a_view_of_thick_slices_is_turned_in_the_world(tmp_path: Path, textured: np.ndarray) -> None:
    spacing_mm = np.array([1.0, 1.0, 4.0])
    stored = VolumeStore(tmp_path).put("thick", Volume(textured, np.diag([*spacing_mm, 1.0])))
    drawn = PatchBatches([stored], CONFIG, 6, seed=0)._draw(0, slice(None), [0])[0]
    in_mm = spacing_mm[:, None] * drawn.matrices[:, :, :3] / spacing_mm
    scaled = np.einsum("vij,vkj->vik", in_mm, in_mm)
    np.testing.assert_allclose(scaled, scaled[:, :1, :1] * np.eye(3), atol=1e-5)


def test_an_epoch_takes_every_sample_once_and_then_comes_the_next(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, sampler=TEN)
    epochs, samples = (np.concatenate(part) for part in zip(*map(batches.samples, range(10)), strict=True))
    for epoch in range(3):
        assert sorted(samples[epochs == epoch]) == list(range(20))
    assert set(np.diff(epochs)) <= {-1, 0, 1}  # a step may begin the next epoch
    assert [sorted(set(epochs[first : first + 6])) for first in (0, 18, 54)] == [[0], [0, 1], [2]]


def test_a_sample_of_the_next_epoch_has_other_views(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, sampler=TEN)
    seen = {}
    for step in range(8):  # 48 of 20 samples: two epochs and a half
        for row, (epoch, sample) in enumerate(zip(*batches.samples(step), strict=True)):
            seen[int(epoch), int(sample)] = step, row
    first, second = (batches.views(step, 0, slice(row, row + 1)) for step, row in (seen[0, 4], seen[1, 4]))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.usefixtures("memory")
def test_a_view_of_a_step_replays(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, sampler=TEN)
    view = batches.batch(3)["view1"].numpy()
    np.testing.assert_array_equal(batches.views(3, 1, slice(2, 4)), view[2:4])
    assert batches.originals(batches.samples(3)[1][:2]).shape == (2, 1, 8, 8, 8)


def test_centres_lie_in_the_foreground_of_their_own_scan(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, sampler=TEN)
    middles = batches.originals(np.arange(20))[:, 0, 4, 4, 4]
    assert (middles > 0.4).all()


def test_a_scan_with_little_foreground_counts_as_much(tmp_path: Path) -> None:
    array = np.zeros((1, 12, 12, 12), np.float32)
    array[0, 5, 5, 5:8] = 1
    stored = VolumeStore(tmp_path).put("few", Volume(array, np.eye(4)))
    assert PatchBatches([stored], CONFIG, 4, seed=0, sampler=TEN).num_samples == 10


@pytest.mark.parametrize("empty", [True, False])
def test_nothing_to_train_on_is_refused(tmp_path: Path, empty: bool) -> None:
    blank = VolumeStore(tmp_path).put("blank", Volume(np.zeros((1, 9, 9, 9), np.float32), np.eye(4)))
    with pytest.raises(DataError, match=r"no scans|scan 1 has no foreground; `fewlabel data show .*/blank "):
        PatchBatches([] if empty else [blank], CONFIG, 4, seed=0).batch(0)


def test_the_two_heads_of_the_demo_share_a_batch_evenly(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 128, seed=0)
    for step in range(3):
        epochs, samples = batches.samples(step)
        assert np.bincount(samples // 10_000).tolist() == [64, 64]
        assert len(set(samples)) == 128 and not epochs.any()
    assert batches.samples_per_epoch == 20_000
    middles = batches.originals(samples)[:, 0, 4, 4, 4]
    assert (middles > 0.4).all()


def test_views_of_a_crop_are_those_of_the_whole_scan(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies between the crop that is read and the scan changes nothing, at the scan's edge neither."""
    batches = PatchBatches(stored, CONFIG, 16, seed=1, sampler=TEN)
    drawn = batches._draw(2, slice(None), [0, 1])
    assert Renderer(stored, 8).keeps_whole_scans
    whole = Renderer(stored, 8).render(drawn)
    monkeypatch.setattr(rendering, "MAX_KEPT_BYTES", 0)
    assert not Renderer(stored, 8).keeps_whole_scans
    np.testing.assert_array_equal(Renderer(stored, 8, num_threads=2).render(drawn), whole)
    for number, view in enumerate(drawn):
        for row, place in enumerate(view.places):
            volume = stored[place.scan]
            scaling = {"scale": volume.scale, "offset": volume.offset}
            raw = volume.crop((0, 0, 0), volume.shape)
            expected = apply_parameters(raw, place.centre[None], view.parameters[row : row + 1], 8, **scaling)
            np.testing.assert_array_equal(whole[number][row], expected[0])


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_workers_and_shards_change_nothing(stored: list[StoredVolume], num_workers: int, num_shards: int) -> None:
    """Other processes give the same bits, whatever they looked at before."""
    settings = {
        "subjects": ["a", "b"],
        "sampler": TEN,
        "crops": CropConfig(random_share=0.3),
        "pairs": OverlappingCrops(),
    }
    batches = PatchBatches(stored, CONFIG, 8, seed=3, **settings)
    layout = Shards(range(3), range(num_shards), num_shards)
    loader = DataLoader(ShardDataset(batches), batch_size=None, sampler=layout, num_workers=num_workers)
    parts = [batch for _, batch in loader]
    here = PatchBatches(stored, CONFIG, 8, seed=3, num_threads=2, **settings)
    for step in reversed(range(3)):
        whole, own = here.batch(step), parts[step * num_shards : (step + 1) * num_shards]
        assert whole.keys() == {"view0", "view1", "draws", "overlap", "boxes"}
        for name, value in whole.items():
            assert torch.equal(torch.cat([part[name] for part in own]), value)


@pytest.mark.usefixtures("memory")
def test_batches_go_to_processes_that_do_not_fork(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=3, sampler=TEN)
    before = batches.batch(0)["view0"]
    assert torch.equal(pickle.loads(pickle.dumps(batches)).batch(0)["view0"], before)
