"""The compiled kernel gives the same bits whether numba compiled it just now or found it in its cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib
import numpy as np
from toolkit.scans.views import ViewConfig, apply_parameters, sample_parameters
volume = (np.random.default_rng([0]).random((1, 40, 40, 40)) * 32767).astype(np.int16)
kinds = "crop_resize elastic low_resolution ghosting motion rician outer_mask inner_mask cutout".split()
config = ViewConfig(patch_size=16, **{f"{kind}_probability": 0.3 for kind in kinds})
parameters = sample_parameters(config, 0, 0, np.arange(32), 0)
views = apply_parameters(volume, np.full((32, 3), 20, np.float32), parameters, 16, scale=1 / 32767)
print(hashlib.sha256(views.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_kernel_from_the_cache_gives_the_bits_of_a_new_one(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbc"))
    assert compiled == cached
