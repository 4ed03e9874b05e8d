"""What a person sees while something runs: a progress bar in a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
log = logging.getLogger("fewlabel")

PLAIN_LINE_EVERY_S = 10.0

T = TypeVar("T")


def setup_logging(level: int = logging.INFO) -> None:
    """Sends fewlabel's log lines to the standard error; does nothing when a handler is there already."""
    if log.handlers:
        return
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False


def track(items: Iterable[T], description: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Yields `items` and shows how far they are.

    Args:
        items: What to go through.
        description: What is being done, shown before the bar.
        total: How many there are in all, `done` included; taken from `len(items)` where it has one.
        done: How many an earlier run finished already.
    """
    if total is None and isinstance(items, Sized):
        total = len(items) + done
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(description, total=total, completed=done)
            for item in items:
                yield item
                progress.advance(task)
        return
    started = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > PLAIN_LINE_EVERY_S:
            last = time.monotonic()
            log.info("%s: %d/%s, %.0f s", description, count + done, total or "?", last - started)
