"""What every recipe's configuration has."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from toolkit.config.section import Section


class RunConfig(Section):
    """Base of each recipe's `Config`."""

    output: Path
    """The run's folder. A folder that holds the same run, unfinished, is continued."""
    seed: int = Field(0, ge=0)
    """Everything random follows from it."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads; results are equal bit by bit only for the same number. Default: all CPUs."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where metrics go besides metrics.jsonl."""
    plan: bool = False
    """Prepare the data, time a few steps, say what the training will take, and stop. Also `--plan`."""
    profile_steps: int = Field(0, ge=0)
    """Write a trace of so many steps to `trace.json` for Perfetto or chrome://tracing. Also `--profile N`."""
    force: bool = False
    """Go on with a run of another configuration, other data or another version of the code. Also `--force`."""

    of_this_start: ClassVar[frozenset[str]] = frozenset({"output", "trackers", "plan", "profile_steps", "force"})
    """Fields that may change each time a run is started; the others make it the run that it is."""
