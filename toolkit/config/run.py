"""What every recipe's configuration has."""

from pathlib import Path

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
