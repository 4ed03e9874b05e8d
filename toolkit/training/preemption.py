"""Signals that ask a run to end: it finishes the step, saves, and says how to go on."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""A scheduler's request to end, Slurm's warning before the time is over (`--signal=USR1@120`), and Ctrl-C."""


class Preemption:
    """Notes a signal while it is entered; outside the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        signal_name: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[int, object] = {}

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal_name is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, self._previous[number])  # type: ignore[arg-type]  # a second one ends it at once
        if self.signal_name is None:
            self.signal_name = signal.Signals(
                number
            ).name  # and no more: a handler may come in the middle of a log line
