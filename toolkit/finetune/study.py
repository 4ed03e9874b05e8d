"""The label-efficiency study: every method at every budget, on the same draws of labels.

    run_study(tasks, methods, StudyConfig(budgets=(2, 5, 20, 100)), folder, executor=ProcessPoolExecutor(2))

It leaves `results.csv`, `predictions.parquet`, `summary.csv` and `comparisons.csv` in the folder. Each cell
is kept as it is done, under a digest of all that it depends on: a run that was cut off goes on where it was,
a changed task or method is computed anew, and the number of workers changes nothing.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from toolkit.config import Section
from toolkit.console import track
from toolkit.errors import ConfigError, DataError
from toolkit.finetune.baselines import Majority
from toolkit.finetune.cells import Cell, InProcess, cell_digest
from toolkit.finetune.jobs import majority_cell, probe_cells, trained_cell
from toolkit.finetune.methods import FeatureMethod, TrainedMethod
from toolkit.finetune.results import write_tables
from toolkit.finetune.task import Task, select
from toolkit.registry import nearest
from toolkit.splits import nested_draws, thin

Method = FeatureMethod | TrainedMethod | Majority

MAX_PENDING = 64  # cells handed out and not back yet: bounds the memory that their inputs take


class StudyConfig(Section):
    """Which cells a study has."""

    budgets: tuple[int, ...] = Field((8, 32, 128), min_length=1)
    """Labels a class, ascending."""
    num_draws: int = Field(10, gt=0)
    """Draws of labels for probes and baselines. The spread between draws is large: fewer than 10 say
    little."""
    trained_budgets: tuple[int, ...] = (32,)
    """Budgets at which networks are trained (scratch, ssl-finetune)."""
    trained_draws: int = Field(3, gt=0)
    """Draws for networks that are trained: the first ones of the others' draws."""
    num_seeds: int = Field(1, gt=0)
    """Trainings of a network with the same labels; their mean counts as one value."""
    methods: tuple[str, ...] = ()
    """Names of the methods to run; all when empty."""
    max_pool_per_class: int = Field(512, gt=0)
    """The pool is thinned at random to so many samples of each class, to save embedding what no draw
    needs."""
    seed: int = Field(0, ge=0)
    """Seed of thinning, draws and trainings."""


def run_study(
    tasks: Sequence[Task],
    methods: Sequence[Method],
    config: StudyConfig,
    folder: Path,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Runs the cells that are not there yet and writes the tables.

    Args:
        tasks: What to solve. Test labels are looked at only when the tables are written.
        methods: What to compare.
        config: Budgets and draws.
        folder: Where tables go, and cells in its `cells/`.
        executor: Runs cells in parallel (`concurrent.futures` interface); by default they run here one by
            one. What is handed to it is whole in itself, so the workers may be on other machines.

    Returns:
        The rows of `results.csv`.

    Raises:
        ConfigError: A name in `config.methods` is not among the methods.
        DataError: A pool has too few labels for every budget.
        DiskError: The folder cannot be written.
    """
    chosen = _choose(methods, config.methods)
    tasks = [task.thinned(thin(task.pool_labels, config.max_pool_per_class, seed=config.seed)) for task in tasks]
    cells = {}
    for task in tasks:
        digest = task.digest()
        cells |= {(task.key, i): _cells(task, digest, method, config) for i, method in enumerate(chosen)}
    kept = folder / "cells"
    kept.mkdir(parents=True, exist_ok=True)
    every = [cell for group in cells.values() for cell in group]
    num_done = sum(cell.path(kept).exists() for cell in every)
    jobs = _jobs(tasks, chosen, cells, kept, executor or InProcess())
    for cell, probabilities in track(jobs, "study", total=len(every), done=num_done):
        cell.save(kept, probabilities)
    results = write_tables(tasks, [cells[task.key, i] for task in tasks for i in range(len(chosen))], kept, folder)
    current = {cell.path(kept).name for cell in every}
    for stale in kept.iterdir():
        if stale.name not in current:
            stale.unlink()
    return results


def _choose(methods: Sequence[Method], names: tuple[str, ...]) -> list[Method]:
    known = [method.name for method in methods]
    for name in names:
        if name not in known:
            raise ConfigError(f"study.methods: no method named {name!r}; {nearest(name, known)}")
    return [method for method in methods if not names or method.name in names]


def _cells(task: Task, task_digest: str, method: Method, config: StudyConfig) -> list[Cell]:
    identity = (task_digest, method.name, method.pretraining)
    if isinstance(method, Majority):
        none = np.empty(0, dtype=np.int64)
        return [Cell(task.key, method.name, method.pretraining, None, None, None, none, cell_digest(*identity))]
    trained = not hasattr(method, "features")
    possible = _possible(task, config.budgets)
    budgets = [budget for budget in possible if budget in config.trained_budgets] if trained else possible
    identity = (
        *identity,
        method.fingerprint(),
        "" if trained else repr(getattr(method.classifier, "config", "")),
    )
    cells = []
    for draw in range(min(config.trained_draws, config.num_draws) if trained else config.num_draws):
        draws = nested_draws(task.pool_labels, possible, draw=draw, seed=config.seed)
        for budget in budgets:
            for seed in range(config.seed, config.seed + (config.num_seeds if trained else 1)):
                digest = cell_digest(*identity, draws[budget], draw, seed)
                cells.append(Cell(task.key, method.name, method.pretraining, budget, draw, seed, draws[budget], digest))
    return cells


def _possible(task: Task, budgets: Sequence[int]) -> list[int]:
    smallest = int(np.bincount(task.pool_labels, minlength=task.num_classes).min())
    possible = sorted({budget for budget in budgets if budget <= smallest})
    if not possible:
        raise DataError(f"task {task.key}: its smallest class has {smallest} samples to label; give smaller budgets")
    return possible


def _jobs(
    tasks: Sequence[Task],
    methods: Sequence[Method],
    cells: dict[tuple[str, int], list[Cell]],
    kept: Path,
    executor: Executor,
) -> Iterator[tuple[Cell, np.ndarray]]:
    """Hands the missing cells to the executor and yields each with its prediction as it comes back."""
    pending: dict[Future[list[np.ndarray]], list[Cell]] = {}
    # Networks first: they take longest, and the features of the others are computed meanwhile.
    order = sorted(range(len(methods)), key=lambda i: hasattr(methods[i], "features"))
    try:
        for task in tasks:
            for i in order:
                missing = [cell for cell in cells[task.key, i] if not cell.path(kept).exists()]
                for function, arguments, job_cells in _work(task, methods[i], missing) if missing else ():
                    pending[executor.submit(function, *arguments)] = job_cells
                    yield from _returned(pending, MAX_PENDING)
        yield from _returned(pending, 0)
    finally:
        for future in pending:
            future.cancel()


def _work(task: Task, method: Method, missing: list[Cell]) -> Iterator[tuple]:
    """Functions with their arguments, whole in themselves, and the cells that each one gives."""
    labels = task.pool_labels
    if isinstance(method, Majority):
        yield majority_cell, (labels, len(task.test), task.num_classes), missing
    elif hasattr(method, "features"):
        variants = method.features(task)
        test = {name: test for name, (_, test) in variants.items()}
        for draw in sorted({cell.draw for cell in missing}):
            job_cells = [cell for cell in missing if cell.draw == draw]
            labelled = [{name: pool[cell.labelled] for name, (pool, _) in variants.items()} for cell in job_cells]
            job_labels = [labels[cell.labelled] for cell in job_cells]
            yield probe_cells, (method.classifier, labelled, job_labels, test, task.num_classes), job_cells
    else:
        for cell in missing:
            seed = int(np.random.SeedSequence([cell.seed, cell.draw]).generate_state(1)[0])
            labelled = select(task.pool, cell.labelled)
            yield (
                trained_cell,
                (method, labelled, labels[cell.labelled], task.test, task.num_classes, seed),
                [cell],
            )


def _returned(pending: dict[Future[list[np.ndarray]], list[Cell]], leave: int) -> Iterator[tuple[Cell, np.ndarray]]:
    """What has come back; waits until at most `leave` are out."""
    while pending:
        done, _ = wait(pending, timeout=0 if len(pending) <= leave else None, return_when=FIRST_COMPLETED)
        if not done:
            return
        for future in done:
            yield from zip(pending.pop(future), future.result(), strict=True)
