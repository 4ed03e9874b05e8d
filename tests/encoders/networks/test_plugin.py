"""A network from outside is one new file: a package in a folder of its own, found through its entry point."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
NETWORK = '''"""A network from outside."""

from typing import ClassVar, Literal

from torch import nn

from toolkit.encoders.networks.base import Network, NetworkConfig, register


class BlocksConfig(NetworkConfig):
    """Settings."""

    name: Literal["blocks"] = "blocks"
    """The network."""
    block_side: int = 4
    """Voxels that are taken together."""

    @property
    def min_sides(self):
        return (2 * self.block_side,) * 3


@register("blocks")
class Blocks(Network):
    """Means over boxes of voxels, and two layers."""

    Config: ClassVar[type[NetworkConfig]] = BlocksConfig
    family = "cnn"

    def __init__(self, config):
        super().__init__(config, (8, 6), (2 * config.block_side,) * 3)
        self.mean = nn.AvgPool3d(config.block_side, ceil_mode=True)
        self.first = nn.Sequential(nn.Conv3d(config.in_channels, 8, 1), nn.GELU(), nn.GroupNorm(2, 8))
        self.second = nn.Sequential(nn.AvgPool3d(2, ceil_mode=True), nn.Conv3d(8, 6, 1))

    def forward(self, patches_BCIJK):
        fine = self._through(self.first, self.mean(patches_BCIJK))
        return [fine, self._through(self.second, fine)]
'''
LOOK = """
import runpy
import sys
import pytest
from toolkit.cli import main

def fewlabel(*words):
    sys.argv = ["fewlabel", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)

if __name__ == "__main__":
    fewlabel("ls", "network")
    fewlabel("schema", "scan_pretrain")
    fewlabel("run", "scan_pretrain", "--config", "scan_pretrain/heads", "encoder={name: blocks}", "--dry-run")
    sys.argv = ["recipe", "--help"]
    try:
        runpy.run_path("recipes/scan_pretrain.py", run_name="__main__")
    except SystemExit:
        pass
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "blocks", "tests/encoders/networks/test_contract.py"]))
"""


def test_a_network_from_outside_is_seen_everywhere(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text(NETWORK)
    about = tmp_path / "blocks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: blocks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fewlabel.networks]\nblocks = blocks\n")
    (tmp_path / "look.py").write_text(LOOK)
    done = subprocess.run(
        [sys.executable, tmp_path / "look.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout
    assert done.returncode == 0, shown + done.stderr
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith("network")}
    assert {"blocks", "small_resnet", "vit"} <= listed  # ls
    assert '"BlocksConfig"' in shown  # schema
    assert "name: blocks" in shown  # a resolved configuration
    assert "encoder as blocks:" in shown and "encoder.block_side [4] Voxels that are taken together." in shown  # --help
    counted = [line for line in shown.splitlines() if " passed" in line]
    assert counted and int(counted[-1].split()[0]) >= 12 and "failed" not in counted[-1]  # the suite
