"""Batches are a pure function of (seed, step)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.errors import ConfigError, DataError
from toolkit.scans import PatchBatches, StoredVolume, ViewConfig, Volume, VolumeStore

CONFIG = ViewConfig(patch_size=8)


@pytest.fixture
def stored(tmp_path: Path, textured: np.ndarray) -> list[StoredVolume]:
    small = textured[:, :20, :30, :25]
    masked = [np.where(array > 0.5, array, 0) for array in (textured, small)]
    return [VolumeStore(tmp_path).put(f"v{n}", Volume(array, np.eye(4))) for n, array in enumerate(masked)]


def test_any_step_can_be_asked_for_in_any_order(stored: list[StoredVolume]) -> None:
    one = PatchBatches(stored, CONFIG, 6, seed=3, samples_per_volume=10)
    steps = {step: one.batch(step) for step in (5, 0, 3)}
    other = PatchBatches(stored, CONFIG, 6, seed=3, samples_per_volume=10, num_threads=2)
    for step in range(6):
        batch = other.batch(step)
        assert batch["view0"].shape == (6, 1, 8, 8, 8)
        if step in steps:
            assert torch.equal(batch["view0"], steps[step]["view0"])
            assert torch.equal(batch["view1"], steps[step]["view1"])
    assert not torch.equal(steps[0]["view0"], steps[0]["view1"])
    assert not torch.equal(
        steps[0]["view0"], PatchBatches(stored, CONFIG, 6, seed=4, samples_per_volume=10).batch(0)["view0"]
    )


@pytest.mark.parametrize("num_shards", [1, 2, 3, 6])
def test_parts_of_a_batch_are_the_batch_bit_for_bit(stored: list[StoredVolume], num_shards: int) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=3, samples_per_volume=10)
    for step in (0, 3):  # step 3 reaches into the next epoch
        whole, parts = batches.batch(step), [batches.batch(step, shard, num_shards) for shard in range(num_shards)]
        assert all(len(part["view0"]) == 6 // num_shards for part in parts)
        for view in ("view0", "view1"):
            assert torch.equal(torch.cat([part[view] for part in parts]), whole[view])
        ids = [number for shard in range(num_shards) for number in batches.sample_ids(step, shard, num_shards)]
        assert ids == batches.samples(step)[1].tolist()
    assert batches.samples_per_epoch == 20


def test_a_part_renders_its_own_rows_only(stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=3, samples_per_volume=10)
    rendered: list[int] = []
    render = batches._render
    monkeypatch.setattr(batches, "_render", lambda *args: rendered.append(len(args[1])) or render(*args))
    batches.batch(0, 1, 3)
    assert sum(rendered) == 2 * 2  # two samples, two views


def test_a_batch_that_does_not_part_evenly_is_refused(stored: list[StoredVolume]) -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: 6 .* 4 equal parts"):
        PatchBatches(stored, CONFIG, 6, seed=3, samples_per_volume=10).batch(0, 0, 4)


def test_an_epoch_takes_every_sample_once_and_the_next_in_another_order(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, samples_per_volume=10)
    epochs, samples = (np.concatenate(part) for part in zip(*map(batches.samples, range(10)), strict=True))
    assert epochs.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    orders = samples.reshape(3, 20)
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])


def test_a_sample_of_the_next_epoch_has_other_views(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, samples_per_volume=10)
    first, second = (batches.views(np.array([epoch]), np.array([4]), 0) for epoch in (0, 1))
    assert np.abs(first - second).max() > 0.01


def test_a_view_of_a_step_replays(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, samples_per_volume=10)
    epochs, samples = batches.samples(3)
    view = batches.batch(3)["view1"].numpy()
    np.testing.assert_array_equal(batches.views(epochs[2:4], samples[2:4], 1), view[2:4])
    assert batches.originals(samples[:2]).shape == (2, 1, 8, 8, 8)


def test_centres_lie_in_the_foreground_of_their_own_scan(stored: list[StoredVolume]) -> None:
    batches = PatchBatches(stored, CONFIG, 6, seed=0, samples_per_volume=10)
    middles = batches.originals(np.arange(20))[:, 0, 4, 4, 4]
    assert (middles > 0.4).all()


def test_a_scan_with_little_foreground_counts_as_much(tmp_path: Path) -> None:
    array = np.zeros((1, 12, 12, 12), np.float32)
    array[0, 5, 5, 5:8] = 1
    stored = VolumeStore(tmp_path).put("few", Volume(array, np.eye(4)))
    assert PatchBatches([stored], CONFIG, 4, seed=0, samples_per_volume=10).num_samples == 10


@pytest.mark.parametrize("empty", [True, False])
def test_nothing_to_train_on_is_refused(tmp_path: Path, empty: bool) -> None:
    blank = VolumeStore(tmp_path).put("blank", Volume(np.zeros((1, 9, 9, 9), np.float32), np.eye(4)))
    with pytest.raises(DataError, match=r"no scans|no foreground"):
        PatchBatches([] if empty else [blank], CONFIG, 4, seed=0)
