"""What a run writes down at each logged step: values, clocks, alarms."""

import time
from collections.abc import Mapping, Sequence

from toolkit.errors import TrainingError
from toolkit.training.alarms import Alarms
from toolkit.training.engine import Outcome
from toolkit.training.feed import Feed
from toolkit.training.monitors import effective_rank, embedding_std, uniformity
from toolkit.training.run_folder import RunFolder
from toolkit.training.step import Batches
from toolkit.training.trackers import Tracker


class Journal:
    """Writes metrics.jsonl, timings.jsonl and alarms.jsonl, feeds the trackers, and sums up for the progress bar.

    Args:
        folder: Of the run.
        trackers: Get the same values.
        alarms: Look at them.
        feed: Tells how long the loop waited for data.
        batches: Tells how many tokens there were, where it knows.
        description: Of the run.
        batch_size: Samples a step.
    """

    def __init__(
        self,
        folder: RunFolder,
        trackers: Sequence[Tracker],
        alarms: Alarms,
        feed: Feed,
        batches: Batches,
        description: str,
        batch_size: int,
    ) -> None:
        self.folder, self.trackers, self.alarms, self.feed, self.batches = folder, trackers, alarms, feed, batches
        self.description, self.batch_size = description, batch_size
        self._started = self._last = time.monotonic()
        self._steps = self._tokens = 0
        self._status = ""

    def count(self, step: int) -> None:
        """Notes that `step` was done, for the rates."""
        self._steps += 1
        if hasattr(self.batches, "num_tokens"):
            self._tokens += self.batches.num_tokens(step)

    def write(self, done: int, lr: float, outcome: Outcome, evaluation: Mapping[str, float]) -> dict[str, float]:
        """One row in each place.

        Returns:
            The row of metrics.jsonl.

        Raises:
            TrainingError: The embeddings collapsed, and the configuration says to stop then.
        """
        values = {"loss": outcome.loss.item(), "lr": lr, "grad_norm": float(outcome.grad_norm)}
        values |= monitored(outcome) | dict(evaluation)
        clocks = self._clocks()
        self.folder.log_metrics(done, values)
        self.folder.log_timing(self.description, time.monotonic() - self._started, step=done, **clocks)
        for tracker in self.trackers:
            tracker.log(done, values | clocks)
        self._status = f"loss {values['loss']:.4g}"
        self._status += f", rank {values['effective_rank']:.0f}" if "effective_rank" in values else ""
        try:
            found = [*self.alarms.check_clocks(done, clocks), *self.alarms.check_values(done, values)]
        except TrainingError as error:  # a collapse that ends the run
            self.folder.log_alarm(done, "collapse", str(error))
            raise
        for alarm in found:
            self.folder.log_alarm(alarm.step, alarm.kind, alarm.message)
        return values

    def status(self) -> str:
        """The last loss and rank, for the progress bar."""
        return self._status

    def flush(self) -> None:
        """Before a checkpoint: a run that goes on from it writes nothing of earlier steps again."""
        for tracker in self.trackers:
            tracker.flush()

    def close(self) -> None:
        """Closes the trackers."""
        for tracker in self.trackers:
            tracker.close()

    def _clocks(self) -> dict[str, float]:
        """Rates since the last row."""
        seconds = max(time.monotonic() - self._last, 1e-9)
        clocks = {
            "samples_per_s": round(self._steps * self.batch_size / seconds, 2),
            "data_wait": round(self.feed.waited_s / seconds, 4),
        }
        if self._tokens:
            clocks["tokens_per_s"] = round(self._tokens / seconds, 1)
        if self.feed.padding is not None:
            clocks["padding"] = round(self.feed.padding, 4)
        self._last, self._steps, self._tokens, self.feed.waited_s = time.monotonic(), 0, 0, 0.0
        return clocks


def monitored(outcome: Outcome) -> dict[str, float]:
    """The method's own values, and what tells of collapse."""
    values = {name: float(value) for name, value in outcome.logs.items()}
    if outcome.embeddings is not None:
        embeddings_ND = outcome.embeddings.detach().float()
        values["embedding_std"] = embedding_std(embeddings_ND).item()
        values["effective_rank"] = effective_rank(embeddings_ND).item()
        values["uniformity"] = uniformity(embeddings_ND).item()
    return values
