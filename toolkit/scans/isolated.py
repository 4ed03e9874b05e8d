"""Work on files in processes of their own: one that crashes, hangs or eats the memory costs its own file only."""

import contextlib
import logging
import multiprocessing.connection
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from toolkit.errors import DataError
from toolkit.scans.reasons import Reason

T = TypeVar("T")
_QUEUED_A_WORKER = 4
_LEAST_BYTES = 2 << 30
_NO_PROCESS = (
    "the processes that read scans cannot start; may this user run this Python? In a script, put the call under "
    'if __name__ == "__main__":'
)


@dataclass(frozen=True)
class Lost:
    """A task whose process did not give an answer: why, in the words of `refused.csv`."""

    reason: Reason
    detail: str


def isolated(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, num_workers: int, timeout_s: float
) -> Iterator[tuple[int, T | Lost]]:
    """Runs `function(*task)` for each task in one of several processes, which share nothing and print nothing.

    Args:
        function: Of a module, so that another process finds it; its results must be picklable.
        tasks: Arguments.
        num_workers: How many processes. Each may allocate its share of the memory that is free now.
        timeout_s: After so long a task counts as hung, and its process is ended.

    Yields:
        The task's number and its result, in the order in which they are ready.

    Raises:
        DataError: The processes cannot start, as in a script that calls this without a `__main__` guard.
    """
    if not tasks:
        return
    # Not fork: the reader of a parent that has threads (ITK's, a progress bar's) may hang in the child.
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    if hasattr(os, "fork"):
        context.set_forkserver_preload([function.__module__])
    _start_tracker()
    bytes_each = max(_available_bytes() // num_workers, _LEAST_BYTES)
    pool = ProcessPool(num_workers, initializer=_alone, initargs=(bytes_each,), context=context)
    try:
        waiting: dict[Any, int] = {}
        todo = deque(enumerate(tasks))
        while todo or waiting:
            while todo and len(waiting) < _QUEUED_A_WORKER * num_workers:
                number, task = todo.popleft()
                try:
                    waiting[pool.schedule(function, args=task, timeout=timeout_s)] = number
                except (OSError, EOFError, BrokenProcessPool):
                    raise DataError(_NO_PROCESS) from None
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), _outcome(future, timeout_s)
    finally:
        pool.stop()
        pool.join()


def _start_tracker() -> None:
    """Starts what frees the semaphores of a killed program; it would warn of them, where nobody can do anything."""
    quiet = "ignore:resource_tracker"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _outcome(future: Any, timeout_s: float) -> Any:
    try:
        return future.result()
    except TimeoutError:
        return Lost(Reason.TOO_SLOW, f"no answer within {timeout_s:.0f} s; look whether the file can be copied")
    except MemoryError:
        return Lost(Reason.TOO_LARGE, "does not fit into a process's share of the memory; use fewer --workers")
    except ProcessExpired as error:
        return Lost(Reason.CRASH, f"the reading process ended with code {error.exitcode}; export the scan again")
    except BrokenProcessPool:
        raise DataError(_NO_PROCESS) from None


def _alone(most_bytes: int) -> None:
    """Makes a process that nobody hears, with one thread and a limit on its memory."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # native readers print warnings, and file names with them
        os.dup2(null, stream)
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import SimpleITK as sitk
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not there, or not to be set, on other systems
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def _end_with_parent() -> None:
    """A file that hangs its reader would do so for ever when whoever asks was killed: nobody counts the time."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _available_bytes() -> int:
    """Memory that is free for new programs; where the system does not say, plenty."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 1 << 40
