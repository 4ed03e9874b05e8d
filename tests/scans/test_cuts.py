"""Views that the device makes of cut crops are the kernel's, however they are cut, shipped and portioned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.objectives.examples import LinearEncoder
from toolkit.config import Section
from toolkit.errors import TrainingError
from toolkit.objectives import build_objective
from toolkit.objectives.simclr import SimCLRConfig
from toolkit.scans import PatchBatches, StoredVolume, ViewConfig, Volume, VolumeStore, cuts, rendering
from toolkit.scans.pairs import NeighbouringCrops, OverlappingCrops, SameAnatomy, SameCrop
from toolkit.training import RunFolder, TrainingConfig, fit
from toolkit.training.step import ShardDataset, Shards

SIZE = 12
HALF = {name: 0.5 for name in ViewConfig.model_fields if name.endswith("_probability")}
EVERYTHING: dict[str, Any] = HALF | {"flip_probability": (0.5, 0.5, 0.5)}
UNMOVED = {"shift_voxels": 0, "rotation_degrees": 0, "zoom": 1, "noise": 0, "blur_probability": 0}


@pytest.fixture(params=["kept whole", "read in crops"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, textured: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> list[StoredVolume]:
    """Two scans of two channels, small and with much background, one of them with intensities below 0."""
    if request.param == "read in crops":
        monkeypatch.setattr(rendering, "MAX_KEPT_BYTES", 0)
    both = np.concatenate([textured, textured[:, ::-1]])
    masked = [np.where(both > 0.5, both, 0), np.where(both > 0.6, both * 2 - 1.3, 0)[:, :22, :30, :25]]
    return [VolumeStore(tmp_path).put(f"v{n}", Volume(array, np.eye(4))) for n, array in enumerate(masked)]


def both_ways(stored: list[StoredVolume], batch_size: int = 24, **values: Any) -> tuple[PatchBatches, PatchBatches]:
    """Batches whose views the workers make, and batches whose views the device makes."""
    views = {key: value for key, value in values.items() if key in ViewConfig.model_fields}
    others = {key: value for key, value in values.items() if key not in views}
    workers, device = (
        PatchBatches(stored, ViewConfig(patch_size=SIZE, made_on=made_on, **views), batch_size, 3, **others)
        for made_on in ("workers", "device")
    )
    return workers, device


@pytest.mark.parametrize(
    ("views", "pairs"), [({}, SameCrop()), (EVERYTHING, OverlappingCrops()), (EVERYTHING, SameAnatomy())]
)
def test_the_device_makes_the_kernels_views(stored: list[StoredVolume], views: dict[str, Any], pairs: Any) -> None:
    workers, device = both_ways(stored, pairs=pairs, num_threads=2, **views)
    kernel, batch = workers.batch(1), device.batch(1)
    assert kernel.keys() == batch.keys()
    for name, value in kernel.items():
        assert batch[name].shape == value.shape and batch[name].dtype == value.dtype
        off = (batch[name] - value).abs()
        # A voxel whose value all but vanishes may count as background in one and not in the other.
        assert (off > 3e-5).float().mean() < 2e-4, name


def test_background_stays_background_where_nothing_moves(stored: list[StoredVolume]) -> None:
    """There rounding would let a neighbour in, and brightness would show it."""
    workers, device = both_ways(stored, flip_probability=(0.5, 0.5, 0.5), brightness=0.5, **UNMOVED)
    kernel, batch = workers.batch(0), device.batch(0)
    assert 0.1 < (kernel["view0"] == 0).float().mean() < 0.9
    torch.testing.assert_close(batch, kernel, rtol=0, atol=2e-5)


def test_portions_agree_and_the_same_batch_has_the_same_bits(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, device = both_ways(stored, pairs=NeighbouringCrops(), **EVERYTHING)
    whole = device.batch(2)
    assert all(torch.equal(value, whole[name]) for name, value in device.batch(2).items())
    parts = [device.batch(2, shard, 4) for shard in range(4)]
    monkeypatch.setattr(cuts, "VOXELS_AT_ONCE", 1)
    one_by_one = device.batch(2)
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value, rtol=0, atol=2e-6)
        torch.testing.assert_close(one_by_one[name], value, rtol=0, atol=2e-6)


def test_close_views_of_a_sample_share_a_crop(stored: list[StoredVolume]) -> None:
    _, device = both_ways(stored, 6)
    prepared = device.prepare(0)["cuts"]
    assert prepared["crops"].dtype == torch.int16 and len(prepared["crops"]) == 6
    assert prepared["sources"].tolist() == [*range(6), *range(6)]
    _, device = both_ways(stored, 6, pairs=SameAnatomy())
    first, second = (view.places for view in device._draw(0, slice(None), [0, 1]))
    num_apart = sum(a.scan != b.scan for a, b in zip(first, second, strict=True))
    assert len(device.prepare(0)["cuts"]["crops"]) == 6 + num_apart > 6


@pytest.mark.parametrize("has_gpu", [True, False])
def test_by_default_a_gpu_makes_them(
    stored: list[StoredVolume], monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    batches = PatchBatches(stored, ViewConfig(patch_size=SIZE), 4, 3)
    assert ("cuts" in batches.prepare(0)) == has_gpu


def test_workers_cut_and_the_training_process_renders(stored: list[StoredVolume]) -> None:
    _, device = both_ways(stored, 8)
    loader = DataLoader(ShardDataset(device), batch_size=None, sampler=Shards(range(3), range(2), 2), num_workers=2)
    for number, (shard, prepared) in enumerate(loader):
        expected = device.batch(number // 2, shard, 2)
        assert "view0" not in prepared
        assert all(torch.equal(value, expected[name]) for name, value in device.finish(prepared).items())


class Interrupted(PatchBatches):
    """Ends the run at its fifth batch."""

    def prepare(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Any]:
        if step == 4:
            raise TrainingError("stopped by the test")
        return super().prepare(step, shard, num_shards)


class Cubes(LinearEncoder):
    """A linear map of some voxels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(27, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x[:, 0, 2::4, 2::4, 2::4].flatten(1))


class Config(Section):
    training: TrainingConfig


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_run_goes_on_with_the_same_views(
    stored: list[StoredVolume], tmp_path: Path, micro_batch_size: int | None
) -> None:
    """Also where portions are embedded twice; and workers' views lead to nearly the same weights."""
    config = Config(
        training=TrainingConfig(
            num_steps=6, batch_size=16, micro_batch_size=micro_batch_size, checkpoint_every=2, num_workers=1
        )
    )

    def train(name: str, batches: PatchBatches) -> nn.Module:
        objective = build_objective(SimCLRConfig(head_norm="layer"), Cubes(), seed=0)
        fit(objective, batches, config.training, RunFolder(tmp_path / name, config), seed=3, description="test")
        return objective

    workers, device = both_ways(stored, 16)
    whole, by_workers = train("whole", device), train("workers", workers)
    device.__class__ = Interrupted
    with pytest.raises(TrainingError, match="stopped by the test"):
        train("cut", device)
    device.__class__ = PatchBatches
    cut = train("cut", device)
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    for one, two, three in zip(whole.parameters(), cut.parameters(), by_workers.parameters(), strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, three, rtol=0.05, atol=1e-4)
