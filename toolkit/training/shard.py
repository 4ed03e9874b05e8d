"""Which rows of a global batch a part of it has."""

from toolkit.errors import ConfigError


def shard_rows(batch_size: int, shard: int, num_shards: int) -> slice:
    """The rows of one of `num_shards` equal, consecutive parts of a batch.

    Args:
        batch_size: Rows of the whole batch.
        shard: Which part, from 0.
        num_shards: How many parts there are.

    Raises:
        ConfigError: The parts would not be equal.
    """
    if batch_size % num_shards:
        raise ConfigError(
            f"training.batch_size: {batch_size} samples a step cannot be cut into {num_shards} equal parts; give a "
            "multiple of processes times training.micro_batch_size that is no more than there are samples"
        )
    assert 0 <= shard < num_shards
    size = batch_size // num_shards
    return slice(shard * size, (shard + 1) * size)
