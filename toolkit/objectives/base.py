"""What every self-supervised method is: an encoder, a loss, and a name."""

from typing import Any, ClassVar, Literal

from torch import nn

from toolkit.config import Section
from toolkit.registry import Registry
from toolkit.training import Step


class Objective(nn.Module):
    """Base of all methods. Its `forward(batch)` returns a `Step`.

    Args:
        config: The method's own section, an instance of `Config`.
        encoder: The network that is kept after training; heads and queues stay in the objective.
    """

    modality: ClassVar[Literal["scans", "text"]]
    """What the batches hold."""
    Config: ClassVar[type[Section]]
    """The method's section; its field `name` is a `Literal` of the registered name."""

    def __init__(self, config: Section, encoder: nn.Module) -> None:
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
