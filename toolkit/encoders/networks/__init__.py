"""Networks for scans, one file a family. A new file here is in the registry, the schema and the contract suite.

With its defaults each has so many million parameters, features and voxels along the side of its smallest cube, and a
forward pass over a patch of 64^3 takes so many billion operations (a product and a sum are two), as
`tests/encoders/networks/test_costs.py` counts them:

    network       parameters  operations  features  smallest
    small_resnet         0.9         0.6       128         8
    swin_unetr           2.2         7.2       384        17
    segresnet            4.4        23.6       128         5
    densenet            11.2        10.7      1024        29
    segresnet_ds        17.6        93.8       256         5
    vit                 21.5        26.8       384         8
    resnet              33.2         7.9       512        17
    resenc_unet         90.3       122.3       320        64
"""

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
