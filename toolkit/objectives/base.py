"""What every self-supervised method is: an encoder, a loss, and a name."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.objectives.certify import Claim
from toolkit.registry import Registry
from toolkit.text.pairs import Pairing
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
    claims: ClassVar[tuple[Claim, ...]] = ()
    """What its losses are checked against; see `toolkit.objectives.certify`."""
    families: ClassVar[tuple[str, ...] | None] = None
    """The kinds of network that it can train (`Network.family`); any if not given."""
    num_views: ClassVar[int] = 2
    """How many views of each sample a batch of scans has to hold."""
    masks: ClassVar[bool] = False
    """Whether a text method hides tokens, of which a share is then written down."""
    packs: ClassVar[bool] = False
    """Whether batches of texts may hold several in a row (`documents`)."""
    pairing: Pairing | None = None
    """Which pairs of texts it learns from (`toolkit.text.pairs`), where single ones do not do."""

    def __init__(self, config: Section, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Any) -> Step:
        """The loss of one batch."""
        raise NotImplementedError

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where it cannot train on patches of these sides; asked before the first step."""

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

    def embed(self, batch: Any) -> tuple[Tensor, ...]:
        """The embeddings of both views, (B, D) each, which the monitors look at; then what else the loss needs."""
        raise NotImplementedError

    def loss(self, z: tuple[Tensor, ...]) -> Tensor:
        """The mean loss of what `embed` gave. It may gather from other processes, and has no parameters of its own.

        It detaches what no gradient may reach: in portions, all of `z` ask for one.
        """
        raise NotImplementedError

    def step(self, z: tuple[Tensor, ...]) -> Step:
        """What pairs come to; `forward` is this after `embed`.

        Called once in each try of an optimiser step, with all samples of this process: what is kept here for
        `after_step`, such as the keys of a queue, is in order when a try ran out of memory and was repeated.
        """
        z0_BD, z1_BD = z[:2]
        count = len(z0_BD) + len(z1_BD)
        logs = {"alignment": alignment(z0_BD.detach(), z1_BD.detach())}
        return Step(loss_sum=self.loss(z) * count, count=count, logs=logs, embeddings=z0_BD.detach())


class ViewObjective(PairObjective):
    """Base of methods for scans whose encoder is followed by a projection head.

    Batches hold two views of each sample, `view0` and `view1`, (B, C, I, J, K).

    Args:
        config: The method's section.
        encoder: Any with `embed_dim` and `pooled`.
        head: From `embed_dim` features to what is compared, thrown away after training.
    """

    modality: ClassVar[Literal["scans", "text"]] = "scans"

    def __init__(self, config: Section, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__(config, encoder)
        self.config: Any = config
        self.head = head

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Projections (B, D) of both views."""
        return self.projected(both_views(batch))

    def projected(self, views_BCIJK: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of both, as `both_views` gives them. One pass, so that batch norm sees them together."""
        z0_BD, z1_BD = self.head(self.encoder.pooled(self.encoder(views_BCIJK))).chunk(2)  # type: ignore[operator]
        return z0_BD, z1_BD


def both_views(batch: dict[str, Any]) -> Tensor:
    """All first views of a batch, then all second ones, (2 B, C, I, J, K)."""
    return torch.cat([batch["view0"], batch["view1"]])


OBJECTIVES: Registry[Objective] = Registry("objective", "fewlabel.objectives")
register = OBJECTIVES.register
