"""Networks for scans, one file a family. A new file here is in the registry, the schema and the contract suite."""

from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import Annotated, Any

from pydantic import Field

from toolkit.encoders.networks.base import NETWORKS, Network, NetworkConfig, register

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def config_union() -> Any:
    """The type of a recipe's `encoder` key: any registered network, told apart by `name`."""
    return Annotated[reduce(or_, [NETWORKS.get(name).Config for name in NETWORKS]), Field(discriminator="name")]


def build_network(config: NetworkConfig) -> Network:
    """The network that `config` names."""
    return NETWORKS.get(config.name)(config)  # type: ignore[arg-type]


__all__ = ["NETWORKS", "Network", "NetworkConfig", "build_network", "config_union", "register"]
