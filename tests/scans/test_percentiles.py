"""Percentiles by counting are NumPy's, to the last bit."""

import tracemalloc

import numpy as np
import pytest

from toolkit.scans import percentiles as module
from toolkit.scans.percentiles import percentiles


@pytest.mark.parametrize("kind", ["real", "whole", "negative", "tiny", "huge", "constant", "both zeros"])
@pytest.mark.parametrize("block", [1, 60])
def test_they_are_those_of_numpy(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)  # so that small arrays are counted, by planes or several of them
    for seed in range(20):
        rng = np.random.default_rng([seed])
        array = rng.normal(size=rng.integers(1, 9, 3)).astype(np.float32)
        array = {
            "real": array,
            "whole": np.rint(3 * array),
            "negative": -np.abs(array),
            "tiny": array * np.float32(1e-42),
            "huge": array * np.float32(1e37),
            "constant": np.full_like(array, -7),
            "both zeros": np.copysign(np.float32(0), array),
        }[kind]
        mask = rng.random(array.shape) < 0.6
        mask.flat[0] = True
        wanted = [0, 0.5, 1, 33.3, 50, 99, 99.5, 100]
        assert percentiles(array, mask, wanted) == np.percentile(array[mask], wanted).tolist()


def test_they_take_no_copy_of_the_scan() -> None:
    array = np.random.default_rng([0]).normal(size=(128, 256, 128)).astype(np.float32)
    tracemalloc.start()
    percentiles(array, array > -9, (1, 99))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 2  # the mask is a quarter
