"""The table of costs that the networks' docstring shows."""

import importlib.util

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolkit.encoders import networks
from toolkit.encoders.networks import NETWORKS, build_network

ROWS = [line.split() for line in (networks.__doc__ or "").splitlines() if line.startswith("    ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_table_is_right(row: list[str]) -> None:
    if row[0] == "resenc_unet" and not importlib.util.find_spec("dynamic_network_architectures"):
        pytest.skip("dynamic_network_architectures is not installed")
    config = NETWORKS.get(row[0]).Config(patch_size=64)  # type: ignore[call-arg]
    network = build_network(config).to("meta").eval()  # which computes shapes only
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 1, 64, 64, 64, device="meta"))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    counted = [
        f"{millions:.1f}",
        f"{counter.get_total_flops() / 1e9:.1f}",
        str(network.embed_dim),
        str(config.min_side),
    ]
    assert row[1:] == counted


def test_no_network_is_missing() -> None:
    assert {row[0] for row in ROWS} >= {
        name for name in NETWORKS if NETWORKS.get(name).__module__.startswith("toolkit.")
    }
