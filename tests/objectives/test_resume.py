"""A run that was cut off goes on as if nothing had been: weights, copies, queues and schedules, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.objectives.examples import example_batch, example_encoder
from toolkit.objectives import OBJECTIVES, build_objective
from toolkit.training import RunFolder, TrainingConfig, fit

CONFIG = TrainingConfig(num_steps=5, batch_size=8, checkpoint_every=2, log_every=1)


class CutOff(Exception):
    """The run ends here."""


class Batches:
    """The example batch in another order each step; one step may cut the run off."""

    def __init__(self, objective: Any, cut_off_at: int | None = None) -> None:
        self.objective, self.cut_off_at = objective, cut_off_at

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        if step == self.cut_off_at:
            raise CutOff
        batch = example_batch(self.objective.modality, pairing=self.objective.pairing)
        if self.objective.modality == "text":
            return batch
        return {name: view.roll(step, 0) for name, view in batch.items()}


def trained(name: str, folder: Path, cut_off_at: int | None = None) -> tuple[dict[str, torch.Tensor], str]:
    cls = OBJECTIVES.get(name)
    objective = build_objective(cls.Config(), example_encoder(cls.modality, cls.families))
    run_folder = RunFolder(folder, CONFIG)
    try:
        fit(objective, Batches(objective, cut_off_at), CONFIG, run_folder, 0, "test")
    except CutOff:
        assert cut_off_at is not None
    return objective.state_dict(), run_folder.metrics_path.read_text()


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_resumed_run_ends_as_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    state, metrics = trained(name, tmp_path / "undisturbed")
    trained(name, tmp_path / "cut off", cut_off_at=3)
    found, found_metrics = trained(name, tmp_path / "cut off")
    assert found.keys() == state.keys()
    assert [key for key in state if not torch.equal(found[key], state[key])] == []
    assert found_metrics == metrics
