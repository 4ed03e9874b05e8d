"""The best weights of a run so far, by a value that it logs. They travel in its checkpoints, so a kill loses none."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from toolkit.console import log
from toolkit.errors import ConfigError
from toolkit.registry import nearest
from toolkit.training.checkpoints import copied
from toolkit.training.config import KeepBest

State = Mapping[str, Any]


class Best:
    """Keeps a copy of the weights whenever a logged value is better than ever before.

    Args:
        config: Which value; None keeps nothing and costs nothing.
        num_steps: Of the training.

    Attributes:
        step: Steps done when the best weights were kept; None before.
    """

    def __init__(self, config: KeepBest | None, num_steps: int) -> None:
        self.config, self.num_steps = config, num_steps
        self.step: int | None = None
        self._value = math.nan
        self._weights: State = {}

    def look(self, done: int, values: Mapping[str, float], weights: Callable[[], State], *, complete: bool) -> None:
        """Takes in one row of metrics.

        Args:
            done: Steps done.
            values: What was logged.
            weights: Gives those of now, asked for if they are the best.
            complete: Whether `values` holds all that this run ever logs.

        Raises:
            ConfigError: The value is not among those that the run logs.
        """
        if self.config is None:
            return
        value = values.get(self.config.metric, math.nan)
        if complete and self.config.metric not in values:
            raise ConfigError(
                f"training.keep_best.metric: this run logs no {self.config.metric!r}; "
                f"{nearest(self.config.metric, list(values))}"
            )
        if done < self.config.after * self.num_steps:
            return
        sign = 1 if self.config.mode == "max" else -1
        if math.isfinite(value) and not sign * value <= sign * self._value:  # nothing is above NaN, so the first counts
            self.step, self._value = done, value
            self._weights = copied(weights(), self._weights)

    def take_up(self, module: nn.Module) -> None:
        """Puts the best weights into `module`, if any were kept."""
        if self.config and self.step:
            log.info("the encoder is that of step %d, where %s was %.4g", self.step, self.config.metric, self._value)
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """All of it, in plain types; empty where nothing is kept."""
        if self.config is None or self.step is None:
            return {}
        return {"by": self._by, "step": self.step, "value": self._value, "weights": self._weights}

    def load_state_dict(self, state: State) -> None:
        """Takes back what `state_dict` gave; what was kept by another value than the configured one is dropped."""
        if self.config is None or state.get("by") != self._by:
            return
        self.step, self._value, self._weights = state["step"], state["value"], state["weights"]

    @property
    def _by(self) -> str:
        assert self.config is not None
        return f"{self.config.mode} {self.config.metric}"
