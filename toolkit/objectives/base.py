"""What every self-supervised method is: an encoder, a loss, and a name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from toolkit.config import Section
from toolkit.registry import Registry
from toolkit.training import Step, alignment
from toolkit.training.alarms import Limit


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
    alarm_limits: ClassVar[Mapping[str, Limit]] = {}
    """Where the method's monitors are in order, before those of `toolkit.training.alarms`."""

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


class PairObjective(Objective):
    """Base of methods that compare two views of each sample, all samples of a batch with each other.

    A method gives `embed` and `loss`. What it embeds is kept apart from the loss, so that the loop can put a large
    batch through the network in portions (gradient caching, see `toolkit.training.engine`).
    """

    def forward(self, batch: Any) -> Step:
        """The loss over both views of each sample, and the first ones' embeddings for the collapse monitors."""
        return self.step(self.embed(batch))

    def embed(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What is compared of each view, (B, D) each."""
        raise NotImplementedError

    def loss(self, z: tuple[Tensor, Tensor]) -> Tensor:
        """The mean loss of pairs. It may gather from other processes, and has no parameters of its own."""
        raise NotImplementedError

    def step(self, z: tuple[Tensor, Tensor]) -> Step:
        """What pairs come to; `forward` is this after `embed`."""
        z0_BD, z1_BD = z
        count = len(z0_BD) + len(z1_BD)
        logs = {"alignment": alignment(z0_BD.detach(), z1_BD.detach())}
        return Step(loss_sum=self.loss(z) * count, count=count, logs=logs, embeddings=z0_BD.detach())


OBJECTIVES: Registry[Objective] = Registry("objective", "fewlabel.objectives")
register = OBJECTIVES.register
