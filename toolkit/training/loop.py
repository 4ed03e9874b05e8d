"""The one training loop. Every objective, scan or text, on one device or many, runs through `fit`."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import nn

from toolkit.console import log, track
from toolkit.errors import CheckpointError, Preempted, TrainingError
from toolkit.files import write_atomically
from toolkit.training.alarms import Alarms, nan_message
from toolkit.training.best import Best
from toolkit.training.budget import count_steps, largest_step
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.config import TrainingConfig
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed
from toolkit.training.journal import Journal
from toolkit.training.planner import plan, profiled
from toolkit.training.preemption import Preemption
from toolkit.training.provenance import code_version
from toolkit.training.run_folder import RunFolder
from toolkit.training.schedules import learning_rate_factor
from toolkit.training.step import Batches
from toolkit.training.trackers import open_trackers

LOOK_EVERY = 10  # steps, where a look costs time
Evaluate = Callable[[], Mapping[str, float]]
"""Looks at the model in training, such as by a probe on a few labels; what it gives is logged."""


def fit(
    objective: nn.Module,
    batches: Batches,
    config: TrainingConfig,
    folder: RunFolder,
    seed: int,
    description: str,
    *,
    evaluate: Evaluate | None = None,
) -> int:
    """Trains `objective` in place, from the folder's checkpoint if it has one.

    Batches and dropout are functions of (seed, step, shard) alone, so a run that was killed and continued ends with
    the same weights and the same metrics.jsonl, bit for bit on a CPU with the same number of threads.

    Args:
        objective: Its `forward(batch)` returns a `Step`; `after_step(progress)`, if it has one, is called after
            each optimiser step with the share of the training that is done. See also `Engine`.
        batches: The data.
        config: Steps, rates, precision.
        folder: Where metrics and checkpoints go.
        seed: Seed of everything random inside the objective.
        description: Shown beside the progress bar.
        evaluate: Called every `config.evaluate_every` steps.

    Returns:
        How many steps the encoder's weights have seen: all, or with `config.keep_best` those up to the best.

    Raises:
        TrainingError: The loss is not finite, the embeddings collapsed, or memory does not suffice.
        CheckpointError: The checkpoint belongs to another model or another version of the code, or another process is
            training in the folder.
        DiskError: The disk is full; the last checkpoint is whole.
        Preempted: A signal asked the run to end; all is saved.
    """
    num_steps = count_steps(config, batches)
    engine = Engine(objective, config, seed)
    feed = Feed(batches, config, num_steps, engine.accelerator.device)
    if folder.options.plan:
        plan(engine, feed, num_steps, description)
        return 0
    is_main = engine.accelerator.is_main_process
    alarms = Alarms(limits=getattr(objective, "alarm_limits", {}), on_collapse=config.on_collapse)
    best = Best(config.keep_best, num_steps)
    with (
        Preemption() as preemption,
        ExitStack() as ending,  # ends after the checkpoints: their thread flushes trackers and needs the lock
        Checkpoints(folder.path / "checkpoints", config.keep_checkpoints, code_version()) as checkpoints,
        profiled(folder.options.profile_steps if is_main else 0, folder.path / "trace.json") as step_profiled,
    ):
        if is_main:
            ending.enter_context(folder.locked())
        start = _restore(engine, {"alarms": alarms, "best": best}, checkpoints, folder, num_steps)
        if 0 < start < num_steps:
            log.info("%s: continues from step %d of %d", description, start, num_steps)
        names = folder.options.trackers if is_main and start < num_steps else ()
        trackers = open_trackers(names, folder.path, description, config.model_dump(mode="json"), start)
        journal = Journal(folder, trackers, alarms, feed, batches, description, config.batch_size)
        ending.callback(journal.close)
        if engine.on_gpu and start < num_steps:
            engine.rehearse(feed, largest_step(batches, range(start, num_steps)))
        engine.begin(feed, start)
        first_bad = torch.full((), -1, device=engine.accelerator.device)
        steps = range(start, num_steps)
        for step in track(steps, description, num_steps, start, journal.status) if is_main else steps:
            done = step + 1
            lr = config.lr * learning_rate_factor(
                step,
                num_steps,
                schedule=config.schedule,
                warmup_fraction=config.warmup_fraction,
                decay_fraction=config.decay_fraction,
            )
            outcome = engine.step(feed, step, lr, done / num_steps, stop=preemption.asked)
            journal.count(step)
            last = done == num_steps
            log_now, save_now, evaluate_now = (
                bool(every) and (last or done % every == 0)
                for every in (config.log_every, config.checkpoint_every, evaluate and config.evaluate_every)
            )
            if not outcome.skipped:
                bad = ~(torch.isfinite(outcome.loss) & torch.isfinite(outcome.grad_norm))
                first_bad = torch.where((first_bad < 0) & bad, step, first_bad)
            # A look at a GPU's values waits for them. Processes have to agree on when they look.
            look_now = log_now or save_now or not engine.on_gpu or done % LOOK_EVERY == 0
            if look_now and (wrong := int(first_bad)) >= 0:
                raise TrainingError(_not_finite(engine, batches, folder, wrong, description))
            if log_now or evaluate_now:
                outcome = engine.gathered(outcome)
            if (log_now or evaluate_now) and is_main:
                row = journal.write(done, lr, outcome, evaluate() if evaluate and evaluate_now else {})
                complete = evaluate_now or not (evaluate and config.evaluate_every)
                best.look(done, row, engine.encoder_state, complete=complete)
            stop_now = outcome.stop if isinstance(outcome.stop, bool) else look_now and bool(outcome.stop)
            if (save_now or stop_now) and is_main:
                kept = {"alarms": alarms.state_dict(), "best": best.state_dict()}
                checkpoints.save(done, engine.state_dict() | kept, first=journal.flush)
            step_profiled()
            if stop_now:
                checkpoints.wait()
                engine.accelerator.wait_for_everyone()  # a launcher kills the others once the first has ended
                reason = preemption.signal_name or "another process"
                error = Preempted(
                    f"{description}: ended by {reason} after step {done}; saved, the same command goes on"
                )
                error.exit_code = 130 if reason == "SIGINT" else Preempted.exit_code
                raise error
    engine.finish()
    if is_main:
        log.info(
            "%s: %s", description, f"done, {num_steps} steps, {journal.status()}" if start < num_steps else "was done"
        )
        best.take_up(getattr(objective, "encoder", objective))
    return best.step or num_steps


def _restore(
    engine: Engine, others: Mapping[str, Alarms | Best], checkpoints: Checkpoints, folder: RunFolder, num_steps: int
) -> int:
    """Takes up the newest checkpoint, if there is one; returns the steps that are done."""
    found = checkpoints.newest()
    start = found[0] if found else 0
    if engine.accelerator.is_main_process:
        folder.truncate_logs(start)
    if engine.accelerator.num_processes * start != engine.sum_over_processes(start):
        raise CheckpointError(f"{folder.path}: processes see different checkpoints; give a folder that they share")
    if found is None:
        return 0
    written, now = checkpoints.record(start)["code"], code_version()
    if written and written != now and start < num_steps and not folder.options.force:
        raise CheckpointError(
            f"{checkpoints.folder}: written by {_words(written)}, and this is {_words(now)}; go back to that version, "
            "give another output folder, or add --force to go on with this one"
        )
    try:
        engine.load_state_dict(found[1])
        for name, other in others.items():
            other.load_state_dict(found[1].get(name, {}))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder.path}: its checkpoint does not fit this model ({str(error).splitlines()[0]}); "
            "delete the folder to start anew"
        ) from None
    return start


def _words(code: Mapping[str, str]) -> str:
    return " ".join(f"{name} {version}" for name, version in code.items())


def _not_finite(engine: Engine, batches: Batches, folder: RunFolder, step: int, description: str) -> str:
    """Writes down which samples it was, so that the step can be made again, and says what to do."""
    num_shards = engine.layout.num_shards
    ids = []
    if hasattr(batches, "sample_ids"):
        ids = [batches.sample_ids(step, shard, num_shards) for shard in range(num_shards)]
    path = folder.path / "not_finite.json"
    record = {"step": step, "seed": engine.seed, "num_shards": num_shards, "sample_ids": ids}
    write_atomically(path, json.dumps(record).encode())
    return f"{description}: {nan_message(step, ids)}; {path.name} in the run folder names all samples"
