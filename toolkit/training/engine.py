"""One optimiser step on a global batch, however many processes and portions it takes."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from toolkit.console import log
from toolkit.errors import ConfigError, TrainingError
from toolkit.training.checkpoints import copied
from toolkit.training.config import TrainingConfig
from toolkit.training.feed import Feed, Layout
from toolkit.training.gather import gather_rows, num_processes
from toolkit.training.machine import on_cpu
from toolkit.training.optim import build_optimizer, load_optimizer_state, set_learning_rate
from toolkit.training.preflight import refuse_batch_norm_in_portions, refuse_fp16_on_a_cpu
from toolkit.training.step import Step
from toolkit.training.sync_batch_norm import batch_dependent_layers, convert_sync_batch_norm


@dataclass(frozen=True)
class Outcome:
    """What a step came to, over all processes; logs and embeddings are this process's."""

    loss: Tensor
    grad_norm: Tensor
    count: Tensor | int
    stop: Tensor | bool
    logs: Mapping[str, Tensor | float] = field(default_factory=dict)
    embeddings: Tensor | None = None
    skipped: bool = False
    """Half precision left this step out, as its scale was too large."""


class Engine:
    """A method, its optimiser and its averages, on this process's device.

    Args:
        objective: Trained in place. `forward(batch)` gives a `Step`. A contrastive one has `embed(batch)`, a tuple of
            (B, D), and `step(z)`, the `Step` of such a tuple without parameters of its own: then a batch in portions
            goes through gradient caching (Gao et al. 2021, arXiv:2101.06983), which gives the gradients of the whole
            batch in the memory of a portion. `step` is called once in each try of an optimiser step, with all
            samples of this process; `after_step` once, when the weights have moved.
        config: Rates, portions, precision.
        seed: Seed of everything random inside the objective.
    """

    def __init__(self, objective: nn.Module, config: TrainingConfig, seed: int) -> None:
        self.objective, self.config, self.seed = objective, config, seed
        self.accelerator = _accelerator(config)
        self.world_size = self.accelerator.num_processes
        self.layout = Layout.of(
            config.batch_size, config.micro_batch_size, self.accelerator.process_index, self.world_size
        )
        refuse_batch_norm_in_portions(objective, config, self.world_size)
        if self.world_size > 1:
            objective = convert_sync_batch_norm(objective)
        encoder = getattr(objective, "encoder", objective)
        if hasattr(encoder, "set_gradient_checkpointing"):
            encoder.set_gradient_checkpointing(config.gradient_checkpointing)
        if config.compile:
            encoder.compile()
        optimizer = build_optimizer(
            objective,
            config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=self.accelerator.scaler is None,
        )
        with warnings.catch_warnings():
            # torch 2.13 has another name for it.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            self.model, self.optimizer = self.accelerator.prepare(_Routed(objective), optimizer)
        if self.accelerator.scaler is None:  # what wraps the optimiser serves the scaler, and takes .2 ms a step
            self.optimizer = optimizer
        averaging = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay else None
        self.average = AveragedModel(objective, multi_avg_fn=averaging, use_buffers=True) if averaging else None
        if self.average:
            self.average.module.to(self.accelerator.device)  # an encoder's copy may be made on the CPU
        self.model.train()

    @property
    def on_gpu(self) -> bool:
        """Whether reading a value makes the CPU wait."""
        return self.accelerator.device.type != "cpu"

    @property
    def cached(self) -> bool:
        """Whether the loss needs the embeddings of all portions before any gradient."""
        return hasattr(self.objective, "embed") and len(self.layout.mine) > 1

    def rehearse(self, feed: Feed, step: int) -> None:
        """Takes a step and takes it back. Out of memory, it settles on smaller portions, before anything is trained.

        Args:
            feed: The data.
            step: The global batch that needs most memory.
        """
        before = copied(self.state_dict())
        self.begin(feed, step)
        self.step(feed, step, lr=0.0, progress=0.0)
        self.load_state_dict(before)

    def begin(self, feed: Feed, step: int) -> None:
        """Sets `feed` to the shards of `step`."""
        feed.start(step, self.layout, passes=2 if self.cached else 1)

    def step(
        self, feed: Feed, step: int, lr: float, progress: float, stop: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """One optimiser step. Out of memory, it tries smaller portions of the same batch.

        Args:
            feed: At the shards of `step`.
            step: Number of the global batch.
            lr: Learning rate.
            progress: Share of the training that is done after this step.
            stop: Whether this process was asked to end; `Outcome.stop` says whether any was.
        """
        while (outcome := self._gradients_in_memory(feed, step, stop)) is None:
            self._halve()
            self.begin(feed, step)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.accelerator.scaler and self.accelerator.optimizer_step_was_skipped:
            return replace(outcome, skipped=True)
        if self.average:
            self.average.update_parameters(self.objective)
        if after_step := getattr(self.objective, "after_step", None):
            after_step(progress)
        return outcome

    def gradients(self, feed: Feed, step: int, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Leaves the clipped gradient of the mean loss over the global batch in the parameters; see `step`."""
        parts = self._cached(feed, step) if self.cached else self._accumulated(feed, step)
        device = self.accelerator.device
        wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        loss_sum = torch.stack([part.loss_sum.detach().to(wide) for part in parts]).sum()
        count: Tensor | int = sum(part.count for part in parts)
        stopping: Tensor | bool = stop()
        if self.world_size > 1:
            own = torch.stack([loss_sum, _like(loss_sum, count), _like(loss_sum, stopping)])
            loss_sum, count, stopping = self.accelerator.reduce(own, "sum")
        if self.layout.num_shards > 1:  # the portions were divided by a nominal count: the true one is known only now
            gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
            factor = self.config.batch_size / _at_least_one(count)
            torch._foreach_mul_(gradients, factor.float() if isinstance(factor, Tensor) and self.on_gpu else factor)
        if self.accelerator.scaler:
            self.accelerator.unscale_gradients()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        last = parts[-1]
        return Outcome(loss_sum / _at_least_one(count), grad_norm, count, stopping, last.logs, last.embeddings)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, save what follows from (seed, step)."""
        scaler = self.accelerator.scaler
        return {
            "module": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "scaler": scaler.state_dict() if scaler else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            RuntimeError, ValueError, KeyError: It belongs to another model.
        """
        self.objective.load_state_dict(state["module"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def encoder_state(self) -> dict[str, Any]:
        """The encoder's weights as they would be saved now: the averaged ones where there are any."""
        module = self.average.module if self.average else self.objective
        return getattr(module, "encoder", module).state_dict()

    def finish(self) -> None:
        """Leaves the objective on the CPU, in evaluation mode, with the averaged weights where there are any."""
        if self.average:
            self.objective.load_state_dict(self.average.module.state_dict())
        if self.config.compile:
            getattr(self.objective, "encoder", self.objective)._compiled_call_impl = None
        self.objective.to("cpu").eval()

    def gathered(self, outcome: Outcome) -> Outcome:
        """With the embeddings of all processes, and the means of their logs: what monitors look at."""
        if self.world_size == 1:
            return outcome
        like = torch.zeros((), device=self.accelerator.device)
        logs = {name: self.accelerator.reduce(_like(like, value), "mean") for name, value in outcome.logs.items()}
        embeddings = None if outcome.embeddings is None else gather_rows(outcome.embeddings.detach())
        return replace(outcome, logs=logs, embeddings=embeddings)

    def sum_over_processes(self, number: int) -> int:
        """The sum of a number that each process has."""
        if self.world_size == 1:
            return number
        return int(self.accelerator.reduce(torch.tensor(number, device=self.accelerator.device), "sum"))

    def _accumulated(self, feed: Feed, step: int) -> list[Step]:
        """Gradients of the summed loss, portion by portion."""
        parts = []
        for last in self._portions():
            shard, batch = feed.next()
            with self._unless(last), self._randomness(step, shard):
                part: Step = self.model("forward", batch)
                self._backward(self._scaled(part))
            parts.append(Step(part.loss_sum.detach(), part.count, part.logs, part.embeddings))
        return parts

    def _cached(self, feed: Feed, step: int) -> list[Step]:
        """Embeds all portions without a graph, takes the loss's gradient of the embeddings, then embeds each portion
        again and hands that gradient on."""
        embedded = []
        for _ in self._portions():
            shard, batch = feed.next()
            with torch.no_grad(), self._randomness(step, shard):
                embedded.append(self.model("embed", batch))
        z = tuple(torch.cat(parts).requires_grad_() for parts in zip(*embedded, strict=True))
        whole: Step = self.objective.step(z)  # type: ignore[operator]
        gradients = torch.autograd.grad(self._scaled(whole), z, allow_unused=True)
        compared = [i for i, gradient in enumerate(gradients) if gradient is not None]  # keys and targets have none
        sizes = [len(parts[0]) for parts in embedded]
        for last, *rows in zip(self._portions(), *(gradients[i].split(sizes) for i in compared), strict=True):
            shard, batch = feed.next()
            with self._unless(last), self._randomness(step, shard):
                again = self.model("embed", batch)
                self._backward(sum((again[i] * row).sum() for i, row in zip(compared, rows, strict=True)))
        return [Step(whole.loss_sum.detach(), whole.count, whole.logs, whole.embeddings)]

    def _backward(self, loss: Any) -> None:
        """As Accelerate's, without its look for optional packages, which takes .4 ms each time."""
        (self.accelerator.scaler.scale(loss) if self.accelerator.scaler else loss).backward()

    def _scaled(self, part: Step) -> Tensor:
        """The loss as it is differentiated: a mean. Gradients are averaged over processes, hence the factor."""
        if self.layout.num_shards == 1:
            return part.loss_sum / _at_least_one(part.count)
        return part.loss_sum * (self.world_size / self.config.batch_size)

    def _portions(self) -> Iterator[bool]:
        """For each of this process's shards, whether it is the last."""
        return (shard == self.layout.mine[-1] for shard in self.layout.mine)

    def _unless(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients with the last portion only."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    @contextmanager
    def _randomness(self, step: int, shard: int) -> Iterator[None]:
        seed = _mix(self.seed, step, shard)  # the same again when a portion is embedded again
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for every kind of device: 1 ms a step
        if (kind := self.accelerator.device.type) != "cpu":
            getattr(torch, kind).manual_seed(seed)
        yield

    def _gradients_in_memory(self, feed: Feed, step: int, stop: Callable[[], bool]) -> Outcome | None:
        try:
            return self.gradients(feed, step, stop)
        except torch.OutOfMemoryError:
            return None  # and not the error: its traceback holds what filled the memory

    def _halve(self) -> None:
        micro = self.config.batch_size // self.layout.num_shards
        self.optimizer.zero_grad(set_to_none=True)
        if batch_dependent_layers(self.objective):
            raise TrainingError(
                f"out of memory with {micro} samples at once; lower training.batch_size, or set encoder.norm: group "
                "and objective.head_norm: layer, so that the batch can be cut up"
            )
        if micro % 2 or micro == 2:
            raise TrainingError(f"out of memory with {micro} samples at once; make samples or the encoder smaller")
        if self.world_size > 1:
            raise TrainingError(f"out of memory with {micro} samples at once; set training.micro_batch_size below that")
        layout = Layout.of(self.config.batch_size, micro // 2)
        log.warning("out of memory: going on with training.micro_batch_size %d, the same batch_size", micro // 2)
        self.layout = layout
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()


def _like(other: Tensor, value: Tensor | float) -> Tensor:
    """`value` beside `other`; a number is filled in there, as copying it would wait for the GPU."""
    return value.to(other) if isinstance(value, Tensor) else torch.full_like(other, float(value))


def _at_least_one(count: Tensor | int) -> Tensor | int:
    """A tensor stays one: reading it would make the CPU wait for the GPU."""
    return count.clamp_min(1) if isinstance(count, Tensor) else max(count, 1)


class _Routed(nn.Module):
    """Lets DistributedDataParallel and autocast wrap any method of an objective, not only `forward`."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, method: str, batch: Any) -> Any:
        return getattr(self.objective, method)(batch)


def _accelerator(config: TrainingConfig) -> Accelerator:
    refuse_fp16_on_a_cpu(config)
    AcceleratorState._reset_state()  # an earlier fit of this process may have had another precision
    # Batch norm is synchronised, so buffers are equal. A method need not use all of its encoder's stages.
    spread = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    # Without `cpu`, Accelerate takes processes that torchrun started on a machine without GPUs for strangers.
    accelerator = Accelerator(mixed_precision=config.precision, cpu=on_cpu(), kwargs_handlers=[spread])
    served = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.gradient_accumulation_steps != 1 or accelerator.distributed_type not in served:
        raise ConfigError(
            "accelerate's own accumulation, FSDP and DeepSpeed are not served; take them out of its configuration, and "
            "set training.micro_batch_size"
        )
    assert accelerator.num_processes == num_processes()  # or losses would gather from processes that we don't know of
    return accelerator


def _mix(*numbers: int) -> int:
    """One seed from several numbers, such that near ones give unrelated seeds (splitmix64)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1
