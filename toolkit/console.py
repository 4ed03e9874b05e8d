"""What a person sees while something runs: a progress bar in a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
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


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    done: int = 0,
    status: Callable[[], str] = lambda: "",
) -> Iterator[T]:
    """Yields `items` and shows how far they are, how fast, and how long it will take.

    Args:
        items: What to go through.
        description: What is being done, shown before the bar.
        total: How many there are in all, `done` included; taken from `len(items)` where it has one.
        done: How many an earlier run finished already.
        status: Gives a few words to show beside the bar, such as the last loss.
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
            TextColumn("{task.fields[status]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(description, total=total, completed=done, status="")
            for item in items:
                yield item
                progress.update(task, advance=1, status=status())
        return
    started = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > PLAIN_LINE_EVERY_S:
            last = time.monotonic()
            seconds = last - started
            parts = [f"{count + done}/{total or '?'}", f"{seconds:.0f} s", _rate(count / seconds)]
            if total:
                parts.append(f"{seconds / count * (total - done - count):.0f} s left")
            log.info("%s: %s", description, ", ".join(filter(None, [*parts, status()])))


def _rate(per_s: float) -> str:
    return f"{per_s:.3g}/s" if per_s >= 1 else f"{1 / per_s:.3g} s each"
