"""The samples of a study's tasks as files, for an encoder that runs elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.console import log
from toolkit.encoders.external import sample_ids
from toolkit.finetune.task import Task


def write_samples(tasks: Sequence[Task], folder: Path) -> None:
    """Writes `TASK.parquet` for each task: the `id` of each sample of pool and test, once; for texts also the `text`.

    Patches lie in `TASK.npy`, (N, C, I, J, K) float32 in the order of the ids. A Parquet file with the columns `id` and
    `embedding`, of all tasks together, is then an encoder (`external.NAME.embeddings`).

    Args:
        tasks: Of one leg.
        folder: Only its owner can read it: the samples are the data themselves.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for task in tasks:
        samples = [*task.pool, *task.test]
        ids = [*sample_ids(task.pool), *sample_ids(task.test)]
        rows = np.sort(np.unique(ids, return_index=True)[1])  # each where it comes first
        columns = {"id": [ids[row] for row in rows]}
        name = task.key.replace("/", "_")[:100]
        if isinstance(task.pool, list):
            columns["text"] = [samples[row] for row in rows]
        else:
            array = np.lib.format.open_memmap(
                folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(len(rows), *task.pool.shape[1:])
            )
            for place, row in enumerate(rows):
                array[place] = samples[row]
            array.flush()
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        log.info("%s: %d samples in %s", task.key, len(rows), folder)
