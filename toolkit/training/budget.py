"""How many steps a budget comes to, which is settled before the run: schedules need the end. And the largest step."""

import math

from toolkit.errors import ConfigError
from toolkit.training.config import TrainingConfig
from toolkit.training.step import Batches


def count_steps(config: TrainingConfig, batches: Batches) -> int:
    """Optimiser steps of a run.

    Args:
        config: Its budget.
        batches: Its data.

    Raises:
        ConfigError: The data do not say how long an epoch is, or how many tokens a step has.
    """
    if config.num_tokens is not None:
        if not hasattr(batches, "num_tokens"):
            raise ConfigError("training.num_tokens: these data have no tokens; give num_steps or num_epochs")
        seen = steps = 0
        while seen < config.num_tokens:
            seen += max(1, batches.num_tokens(steps))
            steps += 1
        return steps
    if config.num_epochs is not None:
        if not hasattr(batches, "samples_per_epoch"):
            raise ConfigError("training.num_epochs: these data have no epochs; give num_steps")
        batch_size = getattr(batches, "batch_size", config.batch_size)  # a small corpus has smaller batches
        return math.ceil(config.num_epochs * batches.samples_per_epoch / batch_size)
    return config.num_steps


LOOKED_AT = 1000


def largest_step(batches: Batches, steps: range) -> int:
    """The step, among the first thousand, whose batch has most tokens; the first where all are alike."""
    if not hasattr(batches, "num_tokens"):
        return steps[0]
    return max(steps[:LOOKED_AT], key=batches.num_tokens)
