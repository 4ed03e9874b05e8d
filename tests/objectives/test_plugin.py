"""A method from outside is one new file: a package in a folder of its own, found through its entry point."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
METHOD = '''"""A method from outside."""

from typing import ClassVar, Literal

import numpy as np
import torch

from toolkit.config import Section
from toolkit.objectives.base import ViewObjective, register
from toolkit.objectives.certify import Claim
from toolkit.objectives.heads import mlp_head
from toolkit.training.gather import gather_rows


class NearbyConfig(Section):
    """Settings."""

    name: Literal["nearby"] = "nearby"
    """The method."""
    nearness: float = 3.0
    """Weight of nearness."""
    head_norm: Literal["batch", "layer", "none"] = "batch"
    """Norm of the head."""


def nearby_loss(z0, z1, nearness, *, gather=False):
    """Squared distance of partners, less the variance."""
    z0, z1 = (gather_rows(z.float() if z.dtype != torch.float64 else z) if gather else z for z in (z0, z1))
    z0, z1 = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (z0, z1))
    return nearness * (z0 - z1).square().mean() - z0.var(dim=0, unbiased=False).clamp(max=1).mean()


def formula(z0, z1, nearness):
    return float(nearness * np.mean((z0 - z1) ** 2) - np.minimum(z0.var(axis=0), 1).mean())


@register("nearby")
class Nearby(ViewObjective):
    """Partners lie close, others do not."""

    Config: ClassVar[type[Section]] = NearbyConfig
    claims = (Claim(nearby_loss, formula, {"nearness": 3.0}, collapsed=lambda n, d: 0.0),)

    def __init__(self, config, encoder):
        super().__init__(config, encoder, mlp_head(encoder.embed_dim, [8], 4, config.head_norm))

    def loss(self, z):
        return nearby_loss(*z, self.config.nearness, gather=True)
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
    fewlabel("ls", "objective")
    fewlabel("schema", "scan_pretrain")
    fewlabel("objectives", "nearby")
    fewlabel("run", "scan_pretrain", "--config", "scan_pretrain/heads", "objective={name: nearby}", "--dry-run")
    sys.argv = ["recipe", "--help"]
    try:
        runpy.run_path("recipes/scan_pretrain.py", run_name="__main__")
    except SystemExit:
        pass
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "nearby", "tests/objectives/test_contract.py",
        "tests/objectives/test_certify.py", "tests/objectives/test_portions.py::test_portions_equal_the_whole_batch"]))
"""


def test_a_method_from_outside_is_seen_everywhere(tmp_path: Path) -> None:
    (tmp_path / "nearby.py").write_text(METHOD)
    about = tmp_path / "nearby-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nearby\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fewlabel.objectives]\nnearby = nearby\n")
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
    assert any(line.split()[:2] == ["objective", "nearby"] for line in shown.splitlines())  # ls
    assert '"NearbyConfig"' in shown  # schema
    assert "Partners lie close" in shown and "nearness [3.0]" in shown  # objectives
    assert "name: nearby" in shown  # a resolved configuration
    assert "objective as nearby:" in shown and "objective.nearness [3.0] Weight of nearness." in shown  # --help
    counted = [line for line in shown.splitlines() if " passed" in line]
    assert counted and int(counted[-1].split()[0]) >= 10 and "failed" not in counted[-1]  # the suites
