"""What a batch still needs on the device is done there, of what the workers prepared."""

from typing import Any

import pytest
import torch

from toolkit.training import TrainingConfig
from toolkit.training.feed import Feed, Layout


class InTwoParts:
    """Workers give numbers, the device squares them."""

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        raise AssertionError("the loop asks for the two parts")

    def prepare(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([step, shard, num_shards])}

    def finish(self, prepared: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert prepared["x"].device.type == "meta"
        return {"squares": prepared["x"] ** 2, "attention_mask": torch.tensor([1, 1, 1, 0])}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_is_finished_on_the_device(num_workers: int) -> None:
    config = TrainingConfig(num_steps=5, batch_size=4, num_workers=num_workers)
    feed = Feed(InTwoParts(), config, 5, torch.device("meta"))
    feed.start(2, Layout.of(4, 2), passes=1)
    for expected in (0, 1, 0):
        shard, batch = feed.next()
        assert shard == expected and batch["squares"].device.type == "meta"
    assert feed.padding == 0.25
