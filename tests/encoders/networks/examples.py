"""A tiny network of each family, for the contract suite."""

from typing import Any

import torch

from toolkit.encoders.networks import NETWORKS, NetworkConfig
from toolkit.encoders.scan import ScanEncoder
from toolkit.scans import Preprocessing

TINY: dict[str, dict[str, Any]] = {
    "small_resnet": {"width": 4},
    "resnet": {"width": 4, "depth": 10},
    "segresnet": {"width": 8, "blocks": (1, 1, 1)},
    "segresnet_ds": {"width": 4, "blocks": (1, 1, 1)},
    "resenc_unet": {"widths": (4, 8, 8), "blocks": (1, 2, 1), "patch_size": 24},
    "densenet": {"width": 8, "growth": 4, "layers": (2, 1, 1, 2)},
    "vit": {"hidden_size": 12, "num_layers": 2, "num_heads": 2},
    "swin_unetr": {"width": 6, "blocks": (2, 1, 1, 1), "num_heads": (3, 3, 3, 3), "window": 4},
}
"""A network from outside is tested with its defaults."""


def tiny_config(name: str, **values: Any) -> NetworkConfig:
    """The tiny shape of a network, with `values` instead of its own."""
    return NETWORKS.get(name).Config(**TINY.get(name, {}) | values)  # type: ignore[arg-type]


def tiny_encoder(name: str, seed: int = 0, **values: Any) -> ScanEncoder:
    """An untrained encoder of the tiny network, the same each time."""
    spacing_mm = values.get("voxel_mm", Preprocessing().spacing_mm)
    return ScanEncoder(tiny_config(name, **values), Preprocessing(spacing_mm=spacing_mm)).untrained(seed)


def patches(config: NetworkConfig, size: int = 3, sides: tuple[int, ...] | None = None) -> torch.Tensor:
    """Noise, the same each time."""
    shape = (size, config.in_channels, *(sides or config.sides))
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))
