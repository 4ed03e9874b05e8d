"""What can be refused before hours go into preparing the data."""

from collections.abc import Sequence

from torch import nn

from toolkit.errors import ConfigError
from toolkit.training.config import TrainingConfig
from toolkit.training.feed import Layout
from toolkit.training.machine import num_launched, on_cpu
from toolkit.training.sync_batch_norm import batch_dependent_layers
from toolkit.training.trackers import require_trackers


def preflight(config: TrainingConfig, trackers: Sequence[str], objective: nn.Module | None = None) -> None:
    """Refuses a training that cannot work.

    Args:
        config: Of the training.
        trackers: Names of the run's trackers.
        objective: The method, where it can be built without data.

    Raises:
        ConfigError: A tracker's package is missing, the batch cannot be shared out, fp16 has no GPU, or batch norm
            would see portions of a batch.
    """
    require_trackers(trackers)
    refuse_fp16_on_a_cpu(config)
    Layout.of(config.batch_size, config.micro_batch_size, 0, num_launched())
    if objective is not None:
        refuse_batch_norm_in_portions(objective, config, num_launched())


def refuse_fp16_on_a_cpu(config: TrainingConfig) -> None:
    """Raises ConfigError where the loss could not be scaled."""
    if config.precision == "fp16" and on_cpu():
        raise ConfigError("training.precision: fp16 needs a GPU, where the loss can be scaled; take bf16 or no")


def refuse_batch_norm_in_portions(objective: nn.Module, config: TrainingConfig, num_processes: int) -> None:
    """Raises ConfigError where a process puts its share through the network in portions, and a norm depends on them."""
    mine = Layout.of(config.batch_size, config.micro_batch_size, 0, num_processes).mine
    if len(mine) > 1 and (layers := batch_dependent_layers(objective)):
        raise ConfigError(
            f"training.micro_batch_size: {len(layers)} batch norms ({layers[0]}, ...) would see a portion and not "
            "the batch, and the gradients would be others; set encoder.norm: group and objective.head_norm: "
            "layer, or leave micro_batch_size empty"
        )
