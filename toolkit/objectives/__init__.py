"""Self-supervised methods, one file each. A new file here is in the registry, the schema and the contract suite."""

from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from toolkit.config import Section
from toolkit.encoders.networks import NETWORKS
from toolkit.errors import ConfigError
from toolkit.objectives.base import OBJECTIVES, Objective, PairObjective, register

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def config_union(modality: str) -> Any:
    """The type of a recipe's `objective` key: any registered method of `modality`, told apart by `name`.

    Args:
        modality: "scans" or "text".
    """
    sections = [OBJECTIVES.get(name).Config for name in OBJECTIVES if OBJECTIVES.get(name).modality == modality]
    union = reduce(or_, sections)
    return Annotated[union, Field(discriminator="name")] if len(sections) > 1 else union


def build_objective(
    config: Section, encoder: nn.Module, seed: int = 0, sides: Sequence[int] | None = None
) -> Objective:
    """The method that `config` names, around `encoder`, its heads drawn with `seed`.

    Args:
        config: The method's section.
        encoder: What it trains.
        seed: Of the heads' weights.
        sides: Voxels along I, J and K of the patches that it will train on, where they are known.

    Raises:
        ConfigError: The method cannot train a network of this kind, or not on patches of these sides.
    """
    refuse_family(config.name, encoder)  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = OBJECTIVES.get(config.name)(config, encoder)  # type: ignore[attr-defined]
    if sides is not None:
        objective.refuse_sides(sides)
    return objective


def refuse_family(name: str, encoder: nn.Module | type[nn.Module]) -> None:
    """Raises ConfigError where the method `name` needs another kind of network than `encoder` or its class is."""
    families, family = OBJECTIVES.get(name).families, getattr(encoder, "family", None)
    if families is None or family is None or family in families:
        return
    fitting = [network for network in NETWORKS if NETWORKS.get(network).family in families]
    raise ConfigError(
        f"objective.name: {name} cannot train a {family}; set encoder.name: {' or '.join(fitting)}, or take another "
        "objective"
    )


__all__ = [
    "OBJECTIVES",
    "Objective",
    "PairObjective",
    "build_objective",
    "config_union",
    "refuse_family",
    "register",
]
