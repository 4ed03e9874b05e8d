"""The one training loop. Every objective, scan or text, runs through `fit`."""

import time
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from pydantic import Field
from torch import nn
from torch.utils.data import DataLoader

from toolkit.config import Section
from toolkit.console import log, track
from toolkit.errors import CheckpointError, TrainingError
from toolkit.training.monitors import effective_rank, embedding_std, uniformity
from toolkit.training.optim import decay_groups, set_learning_rate, warmup_cosine
from toolkit.training.run_folder import RunFolder
from toolkit.training.step import Batches, BatchesByStep, Step


class TrainingConfig(Section):
    """How long and how fast."""

    num_steps: int = Field(1000, gt=0)
    """Optimiser steps in all."""
    batch_size: int = Field(64, gt=1)
    """Samples a step."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = Field(1e-4, ge=0)
    """AdamW's decay of matrices and kernels; biases and norms have none."""
    warmup_fraction: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises from 0; a cosine to 0 follows."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    checkpoint_every: int = Field(100, gt=0)
    """Steps between checkpoints: the most that a kill can cost."""
    log_every: int = Field(10, gt=0)
    """Steps between rows of metrics.jsonl."""
    num_workers: int = Field(0, ge=0)
    """Processes that prepare batches ahead; 0 prepares them in the loop."""


def fit(
    objective: nn.Module, batches: Batches, config: TrainingConfig, folder: RunFolder, seed: int, description: str
) -> None:
    """Trains `objective` in place, from the folder's checkpoint if it has one.

    Batches and dropout are functions of (seed, step) alone, so a run that was killed and continued ends with the
    same weights and the same metrics.jsonl, bit for bit on a CPU with the same number of threads.

    Args:
        objective: Its `forward(batch)` returns a `Step`; `after_step(progress)`, if it has one, is called after
            each optimiser step with the share of the training that is done.
        batches: The data.
        config: Steps, rates, precision.
        folder: Where metrics and checkpoints go.
        seed: Seed of everything random inside the objective.
        description: Shown beside the progress bar.

    Raises:
        TrainingError: The loss is not finite.
        CheckpointError: The checkpoint belongs to another model.
    """
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # an earlier fit of this process may have had another precision
    accelerator = Accelerator(mixed_precision=config.precision)
    optimizer = torch.optim.AdamW(decay_groups(objective, config.weight_decay), lr=config.lr, betas=(0.9, 0.98))
    model, optimizer = accelerator.prepare(objective, optimizer)
    start = _restore(objective, optimizer, folder)
    model.train()
    loader = DataLoader(
        BatchesByStep(batches), batch_size=None, sampler=range(start, config.num_steps), num_workers=config.num_workers
    )
    if start:
        log.info("%s: continues from step %d of %d", description, start, config.num_steps)
    clock = time.monotonic()
    for step, batch in enumerate(track(loader, description, total=config.num_steps, done=start), start=start):
        torch.manual_seed(_mix(seed, step, accelerator.process_index))
        lr = config.lr * warmup_cosine(step, config.num_steps, config.warmup_fraction)
        set_learning_rate(optimizer, lr)
        result: Step = model(send_to_device(batch, accelerator.device))
        count = torch.as_tensor(result.count, device=accelerator.device, dtype=torch.float32)
        # DistributedDataParallel averages gradients over processes; the loss is a mean over the global count.
        loss = result.loss_sum * accelerator.num_processes / accelerator.reduce(count, "sum").clamp_min(1)
        accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if after_step := getattr(objective, "after_step", None):
            after_step(done / config.num_steps)
        log_now = done % config.log_every == 0 or done == config.num_steps
        save_now = done % config.checkpoint_every == 0 or done == config.num_steps
        if (log_now or save_now) and not torch.isfinite(loss):
            raise TrainingError(f"{description}: the loss is {loss.item()} at step {done}; lower training.lr")
        if log_now and accelerator.is_main_process:
            folder.log_metrics(done, {"loss": loss.item(), "lr": lr, "grad_norm": float(grad_norm)} | _monitor(result))
            folder.log_timing(description, time.monotonic() - clock, step=done)
        if save_now and accelerator.is_main_process:
            folder.save_checkpoint(done, {"module": objective.state_dict(), "optimizer": optimizer.state_dict()})
    objective.to("cpu").eval()


def _restore(objective: nn.Module, optimizer: torch.optim.Optimizer, folder: RunFolder) -> int:
    found = folder.load_checkpoint()
    if found is None:
        return 0
    step, state = found
    try:
        objective.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder.path}: its checkpoint does not fit this model ({str(error).splitlines()[0]}); "
            "delete the folder to start anew"
        ) from None
    return step


def _monitor(result: Step) -> dict[str, float]:
    values = {name: float(value) for name, value in result.logs.items()}
    if result.embeddings is not None:
        embeddings_ND = result.embeddings.detach().float()
        values["embedding_std"] = embedding_std(embeddings_ND).item()
        values["effective_rank"] = effective_rank(embeddings_ND).item()
        values["uniformity"] = uniformity(embeddings_ND).item()
    return values


def _mix(*numbers: int) -> int:
    """One seed from several numbers, such that near ones give unrelated seeds (splitmix64)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1
