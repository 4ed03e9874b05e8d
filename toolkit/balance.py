"""How often each language, site or modality is drawn, so that a small one is neither lost nor worn out."""

import math
from collections.abc import Hashable, Mapping
from typing import Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from toolkit.config import Section
from toolkit.errors import ConfigError

Name = TypeVar("Name", bound=Hashable)


class BalanceStage(Section):
    """How groups are drawn from some point of a training on."""

    start: float = Field(ge=0, lt=1)
    """Share of the training after which the stage begins; the first begins at 0."""
    temperature: float = Field(ge=1)
    """See `sampling_shares`."""
    min_size: int = Field(1, ge=1)
    """Smaller groups wait for a later stage."""


class BalanceConfig(Section):
    """How often each group is drawn, over the course of a training."""

    temperature: float = Field(2.0, ge=1)
    """Groups are drawn in proportion to their size to the power of one over this: 1 as they are, more is more alike."""
    stages: tuple[BalanceStage, ...] = ()
    """Temperatures that follow each other, instead of the one above."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Quotas of single groups, as shares of all that is drawn; the others share the rest by temperature."""
    max_passes: float | None = Field(None, ge=1)
    """How often a group may be gone through in the whole training, at most; what it leaves goes to the others."""

    @model_validator(mode="after")
    def _stages_in_order(self) -> Self:
        starts = [stage.start for stage in self.stages]
        if starts and (starts[0] != 0 or sorted(set(starts)) != starts):
            raise ValueError("stages: the first must start at 0, and each later than the one before")
        return self

    @model_validator(mode="after")
    def _shares_leave_room(self) -> Self:
        if any(share <= 0 for share in self.shares.values()) or sum(self.shares.values()) > 1:
            raise ValueError("shares: each must be above 0, and all together at most 1")
        return self


ANNEALED = (
    BalanceStage(start=0, temperature=1 / 0.7),
    BalanceStage(start=0.77, temperature=1 / 0.5),
    BalanceStage(start=0.97, temperature=1 / 0.3),
)
"""Temperatures of mmBERT (Marone et al., 2025, arXiv:2509.06888): exponents .7, .5 and .3 over 2,300, 600 and 100
billion tokens, ever more alike; there, languages join from stage to stage too (`min_size`)."""


def sampling_shares(sizes: Mapping[Name, int], temperature: float) -> dict[Name, float]:
    """Share of the samples that each group gets: its size to the power `1 / temperature`, normalised.

    Temperature 1 keeps the data's own proportions; a large one draws all groups alike. XLM-R's exponent
    of 0.3 (Conneau et al., 2020, arXiv:1911.02116) is a temperature of 3.3.

    Args:
        sizes: Samples (texts, tokens or subjects) of each group, above 0.
        temperature: At least 1.
    """
    assert temperature >= 1
    weights = {name: size ** (1 / temperature) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def stage_at(config: BalanceConfig, progress: float) -> BalanceStage:
    """The stage of a training of which the share `progress`, in [0, 1], is over."""
    stages = config.stages or (BalanceStage(start=0, temperature=config.temperature),)
    return next(stage for stage in reversed(stages) if stage.start <= progress)


def shares_at(sizes: Mapping[str, int], config: BalanceConfig, progress: float) -> dict[str, float]:
    """Share of each group at some point of a training, limits by `max_passes` not counted.

    Args:
        sizes: Samples of each group, above 0.
        config: Temperatures and quotas.
        progress: Share of the training that is over, in [0, 1].

    Returns:
        Shares that add up to 1, in the order of `sizes`; 0 for groups that wait for a later stage.

    Raises:
        ConfigError: A quota is of no group, every group waits, or quotas leave something over that nobody can take.
    """
    for name in config.shares:
        if name not in sizes:
            raise ConfigError(f"balance.shares.{name}: no samples of it; known: {', '.join(sorted(sizes))}")
    stage = stage_at(config, progress)
    rest = {name: size for name, size in sizes.items() if size >= stage.min_size and name not in config.shares}
    left = 1 - sum(config.shares.values())
    if not rest and left > 1e-9:
        what = f"balance.stages: min_size {stage.min_size:,}" if not config.shares else "balance.shares"
        raise ConfigError(f"{what}: leaves {left:.0%} of the samples to no group; the sizes are {_listed(sizes)}")
    by_temperature = sampling_shares(rest, stage.temperature)
    return {name: config.shares.get(name, left * by_temperature.get(name, 0.0)) for name in sizes}


class Quotas:
    """How many samples of each group every round of a training draws.

    What rounding leaves of a share is owed to the next round, so a group of 3 samples beside one of a million has its
    turn, too. The same calls give the same numbers.

    Args:
        sizes: Samples of each group, above 0.
        config: Temperatures, quotas and limits.
    """

    def __init__(self, sizes: Mapping[str, int], config: BalanceConfig) -> None:
        self.sizes, self.config = dict(sizes), config
        most = math.inf if config.max_passes is None else config.max_passes
        self._left = {name: most * size if most == math.inf else int(most * size) for name, size in sizes.items()}
        self._owed = dict.fromkeys(sizes, 0.0)

    def next(self, size: int, progress: float) -> dict[str, int]:
        """The next round's.

        Args:
            size: Samples that the round draws.
            progress: Share of the training that is over, in [0, 1].

        Returns:
            Whole numbers that add up to `size`, in the order of the sizes.

        Raises:
            ConfigError: No group has as much left as `max_passes` allow, or see `shares_at`.
        """
        shares = shares_at(self.sizes, self.config, progress)
        wanted = {name: self._owed[name] + share * size for name, share in shares.items()}
        full: dict[str, int] = {}
        quotas = _whole(wanted, size)
        while over := {name: self._left[name] for name, quota in quotas.items() if quota > self._left[name]}:
            full |= over  # what is cut off goes to the others by their shares
            beyond = sum(wanted.pop(name) for name in over) - sum(over.values())
            weight = sum(shares[name] for name in wanted)
            if weight <= 0:
                raise ConfigError(
                    f"balance.max_passes: {self.config.max_passes:g} passes over {_listed(self.sizes)} do not last to "
                    "the end of the training; raise it, train for fewer steps, or let groups join earlier"
                )
            wanted = {name: want + beyond * shares[name] / weight for name, want in wanted.items()}
            quotas = _whole(wanted, size - sum(full.values()))
        for name, quota in (quotas | full).items():
            self._owed[name] = wanted.get(name, quota) - quota
            self._left[name] -= quota
        return {name: full[name] if name in full else quotas[name] for name in self.sizes}


def _whole(wanted: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers, not negative, that add up to `total` as `wanted` do, by largest remainder (ties: the first)."""
    exact = np.array(list(wanted.values()))
    whole = np.maximum(np.floor(exact), 0).astype(np.int64)
    while missing := total - int(whole.sum()):
        step = 1 if missing > 0 else -1
        behind = np.where((whole > 0) | (step > 0), step * (exact - whole), -np.inf)
        whole[np.argsort(-behind, kind="stable")[: min(abs(missing), int(np.isfinite(behind).sum()))]] += step
    return dict(zip(wanted, whole.tolist(), strict=True))


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items())
