"""What a worker does. Little is imported here, so that a worker for probes starts without torch."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from toolkit.errors import TrainingError

if TYPE_CHECKING:
    from toolkit.finetune.methods import Classifier, TrainedMethod
    from toolkit.finetune.probe import Features
    from toolkit.finetune.task import Inputs


MAX_WORKERS = 8
"""Each holds an encoder and its own copy of the libraries, about half a gigabyte."""


@contextmanager
def workers(number: int) -> Iterator[Executor]:
    """Fresh processes, which end with this one: threads of this one would not survive a fork.

    Args:
        number: How many, `MAX_WORKERS` at most.

    Raises:
        TrainingError: One was killed from outside.
    """
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(number, MAX_WORKERS), mp_context=spawn, initializer=end_with_parent) as executor:
            yield executor
    except BrokenProcessPool:
        raise TrainingError(
            "a worker process was killed, probably for want of memory; lower num_threads and run the same command "
            "again: what is finished is kept"
        ) from None


def end_with_parent() -> None:
    """Ends this worker when the process that started it is killed; it would wait for work for ever otherwise."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def majority_cell(pool_labels: np.ndarray, num_tests: int, num_classes: int) -> list[np.ndarray]:
    """The pool's class shares for each test sample."""
    shares = np.bincount(pool_labels, minlength=num_classes) / len(pool_labels)
    return [np.tile(shares.astype(np.float32), (num_tests, 1))]


def probe_cells(
    classifier: "Classifier",
    labelled: "Sequence[Mapping[str, Features]]",
    labels: Sequence[np.ndarray],
    test: "Mapping[str, Features]",
    num_classes: int,
) -> list[np.ndarray]:
    """The cells of one method and one draw, in a worker. One thread, so that their number changes no bit."""
    with threadpool_limits(1):
        return [
            classifier.fit_predict(rows, row_labels, test, num_classes)
            for rows, row_labels in zip(labelled, labels, strict=True)
        ]


def trained_cell(
    method: "TrainedMethod",
    labelled: "Inputs",
    labels: np.ndarray,
    test: "Inputs",
    num_classes: int,
    seed: int,
) -> list[np.ndarray]:
    """One cell that trains a network, in a worker."""
    with threadpool_limits(1):
        return [method.fit_predict(labelled, labels, test, num_classes, seed)]
