"""Progress: a bar with a status in a terminal, plain lines with rate and time left elsewhere."""

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from toolkit import console
from toolkit.console import log, track


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=written, force_terminal=True, width=120))
    return written


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(console, "console", Console(file=io.StringIO(), force_terminal=False))
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, logger="fewlabel")
    return caplog


def clock(monkeypatch: pytest.MonkeyPatch, *moments: float) -> None:
    """What the clock says each time that `track` looks at it."""
    left = iter(moments)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(left)))


def test_the_bar_shows_how_far_and_the_status(terminal: io.StringIO) -> None:
    losses = iter(["loss 3", "loss 2", "loss 1 [bold]"])
    assert list(track([10, 20, 30], "training", status=lambda: next(losses))) == [10, 20, 30]
    assert "training" in terminal.getvalue() and "3/3" in terminal.getvalue()
    assert "loss 1 [bold]" in terminal.getvalue()  # not taken for markup


def test_the_bar_counts_what_an_earlier_run_did(terminal: io.StringIO) -> None:
    assert list(track(range(5, 10), "training", total=10, done=5)) == [5, 6, 7, 8, 9]
    assert "10/10" in terminal.getvalue()


def test_plain_lines_say_rate_time_left_and_status(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 0, 40, 40)
    items = track(range(4, 10), "training", total=10, done=4, status=lambda: "loss 1.5")
    assert next(items) == 4 and next(items) == 5
    assert lines.messages == ["training: 5/10, 40 s, 40 s each, 200 s left, loss 1.5"]


def test_a_quick_rate_is_per_second(lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0, *[5] * 99, 20, 20)
    items = track(iter(range(1000)), "reading")
    for _ in range(101):
        next(items)
    assert lines.messages == ["reading: 100/?, 20 s, 5/s"]  # neither total nor status


def test_plain_lines_are_rare(lines: pytest.LogCaptureFixture) -> None:
    assert list(track(range(1000), "training")) == list(range(1000))
    assert lines.messages == []
