"""What a run will take, from a few of its steps; and where its time goes, from a trace."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from toolkit.console import log
from toolkit.training.checkpoints import copied
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed
from toolkit.training.machine import peak_memory_gb

WARM_UP_STEPS, MIN_STEPS, MAX_STEPS, PATIENCE_S = 2, 5, 50, 20.0


def plan(engine: Engine, feed: Feed, num_steps: int, description: str) -> dict[str, float]:
    """Takes a few steps, says what all of them will take, and puts the model back as it was.

    Args:
        engine: As it is before the first step.
        feed: The data.
        num_steps: Of the run.
        description: Of the run.

    Returns:
        `hours`, `memory_gb` (largest so far, of this process or its GPU), `disk_gb` (what is still to be written:
        checkpoints, one of them while the oldest is still there, and the encoder), `data_wait` (share of the time),
        `samples_per_s`.
    """
    config, before = engine.config, copied(engine.state_dict())
    engine.begin(feed, 0)
    seconds: list[float] = []
    began = time.monotonic()
    for step in range(min(num_steps, WARM_UP_STEPS + MAX_STEPS)):
        if step == min(WARM_UP_STEPS, num_steps - 1):
            feed.waited_s = 0.0
        started = time.monotonic()
        outcome = engine.step(feed, step, 0.0, 0.0, stop=lambda: time.monotonic() - began > PATIENCE_S)
        outcome.loss.item()  # waits for the GPU
        if step >= min(WARM_UP_STEPS, num_steps - 1):
            seconds.append(time.monotonic() - started)
        if bool(outcome.stop) and len(seconds) >= MIN_STEPS:  # all processes see the same
            break
    mean, state = sum(seconds) / len(seconds), engine.state_dict()
    state |= {"best": engine.encoder_state()} if config.keep_best else {}
    found = {
        "hours": mean * num_steps / 3600,
        "memory_gb": peak_memory_gb(),
        "disk_gb": ((config.keep_checkpoints + 1) * _num_bytes(state) + _num_bytes(state["module"])) / 1e9,
        "data_wait": feed.waited_s / sum(seconds),
        "samples_per_s": config.batch_size / mean,
    }
    engine.load_state_dict(before)
    engine.finish()
    say = log.info if engine.accelerator.is_main_process else log.debug
    say(
        "%s: %d steps of %d samples will take about %s (%.2f s a step, %.0f %% of it waiting for data), "
        "%.1f GB of memory, %.2f GB of disk for checkpoints and the encoder",
        description, num_steps, config.batch_size, _duration(mean * num_steps), mean, 100 * found["data_wait"],
        found["memory_gb"], found["disk_gb"],
    )  # fmt: skip
    return found


@contextmanager
def profiled(num_steps: int, path: Path) -> Iterator[Callable[[], Any]]:
    """Writes a trace of `num_steps` steps to `path`, after two to warm up; 0 writes none.

    Yields:
        To be called after each step.
    """
    if not num_steps:
        yield lambda: None
        return

    def write(profiler: torch.profiler.profile) -> None:
        profiler.export_chrome_trace(str(path))
        log.info("the trace of %d steps: %s; open it at https://ui.perfetto.dev", num_steps, path)

    schedule = torch.profiler.schedule(wait=1, warmup=1, active=num_steps, repeat=1)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write) as profiler:
        yield profiler.step


def _num_bytes(state: Any) -> int:
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(_num_bytes(part) for part in parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
