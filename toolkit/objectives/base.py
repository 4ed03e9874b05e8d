"""What every self-supervised method is: an encoder, a loss, and a name."""

from typing import Any

from torch import nn

from toolkit.registry import Registry
from toolkit.training import Step


class Objective(nn.Module):
    """Base of all methods. Its `forward(batch)` returns a `Step`.

    Args:
        encoder: The network that is kept after training; heads and queues stay in the objective.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Any) -> Step:
        """The loss of one batch."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step, for moving averages, queues and schedules.

        Args:
            progress: Share of the training that is done, in (0, 1].
        """


OBJECTIVES: Registry[Objective] = Registry("objective", "fewlabel.objectives")
register = OBJECTIVES.register
