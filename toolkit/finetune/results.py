"""The study's tables: one row a measurement, every prediction, and what the measurements say."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.finetune.cells import Cell, write_or_explain
from toolkit.finetune.metrics import score
from toolkit.finetune.summary import Correct, compare, summarise
from toolkit.finetune.task import Task

COLUMNS = [
    "leg", "task", "language", "site", "method", "pretraining", "budget", "draw", "seed", "metric", "value"
]  # fmt: skip
FILES = ("results.csv", "summary.csv", "comparisons.csv", "predictions.parquet")


def write_tables(tasks: Sequence[Task], groups: Sequence[list[Cell]], kept: Path, folder: Path) -> pd.DataFrame:
    """Scores all cells and writes the four tables, each whole or not at all; the order is that of `groups`.

    Args:
        tasks: The tasks of the cells.
        groups: The cells of each task and method.
        kept: Where their predictions are.
        folder: Where the tables go.

    Returns:
        The rows of `results.csv`.
    """
    by_key = {task.key: task for task in tasks}
    rows, correct, content = [], {}, io.BytesIO()
    writer = None
    for cells in groups:
        if not cells:
            continue
        task = by_key[cells[0].task]
        predictions = [cell.load(kept) for cell in cells]
        for cell, probabilities in zip(cells, predictions, strict=True):
            for metric, value in score(task.test_labels, probabilities).items():
                rows.append((*_names(task, cell), metric, round(value, 6)))
            right = probabilities.argmax(axis=1) == task.test_labels
            correct.setdefault((*_names(task, cell)[:6], cell.budget), {}).setdefault(cell.draw, []).append(right)
        table = _predictions(task, cells, predictions)
        writer = writer or pq.ParquetWriter(content, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
    results = pd.DataFrame(rows, columns=COLUMNS).astype({"budget": "Int64", "draw": "Int64", "seed": "Int64"})
    items = Correct(
        {name: {draw: np.mean(seeds, axis=0) for draw, seeds in draws.items()} for name, draws in correct.items()},
        {(task.leg, task.name, task.language, task.site): task.test_groups for task in tasks},
    )
    tables = (results, summarise(results, items), compare(results))
    for name, table in zip(FILES, tables, strict=False):
        write_or_explain(folder / name, table.to_csv(index=False, lineterminator="\n").encode())
    write_or_explain(folder / "predictions.parquet", content.getvalue())
    return results


def join_tables(studies: Sequence[Path], folder: Path) -> None:
    """Writes the tables of several studies as one set: the legs of a run into the run's folder."""
    for name in FILES[:3]:
        parts = [pd.read_csv(study / name, keep_default_na=False, dtype=str) for study in studies]
        joined = pd.concat(parts, ignore_index=True)
        write_or_explain(folder / name, joined.to_csv(index=False, lineterminator="\n").encode())
    content = io.BytesIO()
    with pq.ParquetWriter(content, pq.read_schema(studies[0] / FILES[3]), compression="zstd") as writer:
        for study in studies:
            for batch in pq.ParquetFile(study / FILES[3]).iter_batches():
                writer.write_batch(batch)
    write_or_explain(folder / FILES[3], content.getvalue())


def _names(task: Task, cell: Cell) -> tuple:
    names = (task.leg, task.name, task.language, task.site, cell.method, cell.pretraining)
    return (*names, cell.budget, cell.draw, cell.seed)


def _predictions(task: Task, cells: Sequence[Cell], predictions: Sequence[np.ndarray]) -> pa.Table:
    """One row a test sample and cell; `probabilities` holds one number a class."""
    num_tests, num_classes = predictions[0].shape
    probabilities = np.concatenate(predictions)
    length = len(probabilities)
    columns = {}
    for i, name in enumerate(COLUMNS[:9]):
        values = [_names(task, cell)[i] for cell in cells]
        repeated = np.repeat(np.arange(len(cells)), num_tests)
        kind = pa.string() if i < 6 else pa.int32()
        columns[name] = pa.array(values, kind).take(pa.array(repeated))
    columns["item"] = pa.array(np.tile(np.arange(num_tests, dtype=np.int32), len(cells)))
    columns["group"] = pa.array([str(group) for group in task.test_groups]).take(columns["item"])
    columns["label"] = pa.array(np.tile(task.test_labels.astype(np.int16), len(cells)))
    columns["prediction"] = pa.array(probabilities.argmax(axis=1).astype(np.int16))
    offsets = pa.array(np.arange(0, (length + 1) * num_classes, num_classes, dtype=np.int32))
    columns["probabilities"] = pa.ListArray.from_arrays(offsets, pa.array(probabilities.ravel()))
    return pa.table(columns)
