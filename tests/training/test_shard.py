"""Parts of a batch: equal, consecutive, complete."""

import pytest

from toolkit.errors import ConfigError
from toolkit.training.shard import shard_rows


@pytest.mark.parametrize("num_shards", [1, 2, 3, 4, 6, 12])
def test_parts_are_equal_and_make_up_the_batch(num_shards: int) -> None:
    parts = [list(range(12))[shard_rows(12, shard, num_shards)] for shard in range(num_shards)]
    assert [row for part in parts for row in part] == list(range(12))
    assert {len(part) for part in parts} == {12 // num_shards}


def test_unequal_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: 12 .* 5 equal parts"):
        shard_rows(12, 0, 5)
