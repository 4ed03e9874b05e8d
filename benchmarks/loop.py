"""Does the one loop cost anything? `fit` against a bare loop, against itself with checkpoints, against HF's Trainer.

    python -m benchmarks.loop [--quick]

On the CPU. All sides get the same weights, batches, AdamW, learning rate and clipping, make their batches in the loop,
and use the same threads. `fit` does what it does for users: metrics, collapse monitors, TensorBoard. Both sides of a
comparison train in one process, in a thread each, and hand over after each step, so that a machine that slows down
slows both (with checkpoints after each ten, since saving goes on beside the steps that follow). A step is timed from
one batch that the loop asks for to the next; a ratio is the median over the turns of six rounds of the ratio of two
turns that were taken together. First, a few steps of `fit` must give the weights that the peers get, or the benchmark
fails.

Ratios (samples a second, ours/peer): `bare_scans`, `bare_text` (at least .97); `checkpoint_scans`, `checkpoint_text`
(every 50 steps against never, at least .98); `trainer_text`, `trainer_scans` (at least 1). `bare`, `checkpoint` and
`trainer` are the worse of the two legs.
"""

import argparse
import copy
import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.report import finish, median_ratio, refuse_without

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # there the host runs ahead of the device, and the clock would lie

try:
    import torch
    from torch import nn
    from transformers import Trainer, TrainingArguments

    from benchmarks.made_up import Words, scan_batches, scan_objective, stored_volumes, text_batches, text_objective
    from toolkit.config import RunConfig
    from toolkit.training import Batches, RunFolder, TrainingConfig, fit, set_num_threads
except ModuleNotFoundError as missing:
    refuse_without(missing)

LR, WEIGHT_DECAY, CLIP_NORM, LOG_EVERY, NEVER = 1e-3, 1e-4, 1.0, 10, 10**9
WARM_UP_TURNS, ROUNDS = 2, 6


@dataclass(frozen=True)
class Turns:
    """How two sides share the machine.

    Attributes:
        steps: Of one turn.
        number: Turns of each side that count, in one round.
        first: Steps before the first turn, so that what happens every so often falls into the middle of a turn.
        hand_over: After how many steps the other side goes on; they divide `steps`.
    """

    steps: int
    number: int
    first: int = 0
    hand_over: int = 1

    @property
    def num_steps(self) -> int:
        """Steps of one training."""
        return self.first + self.steps * (self.number + WARM_UP_TURNS) + 1


class Stopwatch:
    """Batches that time each turn, and let the other side go on between two."""

    def __init__(self, batches: Any, turns: Turns) -> None:
        self.batches, self.turns = batches, turns
        self.seconds: list[float] = []
        self.mine = threading.Semaphore(0)
        self.other: Stopwatch | None = None
        self.finished = False
        self._began = self._turn = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.batches, name)
        return self._timed(found) if name == "prepare" else found

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        """See `Batches`."""
        return self._timed(self.batches.batch)(step, shard, num_shards)

    def _timed(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def timed(step: int, *shard: int) -> Any:
            self.look(step)
            return make(step, *shard)

        return timed

    def look(self, step: int) -> None:
        """Called before each step; between two turns it waits for the other side."""
        past = step - self.turns.first
        if past >= 0 and past % self.turns.hand_over == 0:
            if past:
                self._turn += time.perf_counter() - self._began
            if past and past % self.turns.steps == 0:
                self.seconds.append(self._turn)
                self._turn = 0.0
            self._let_the_other_go_on()
            self._began = time.perf_counter()

    def run(self, train: Callable[[], None]) -> None:
        """Trains, from the first turn to the last."""
        self.mine.acquire()
        try:
            train()
        finally:
            self.finished = True
            if self.other:
                self.other.mine.release()

    def _let_the_other_go_on(self) -> None:
        if self.other and not self.other.finished:
            self.other.mine.release()
            self.mine.acquire()


Train = Callable[[nn.Module, Batches, int], None]


@dataclass
class Leg:
    """One model and its data."""

    name: str
    objective: Callable[[], nn.Module]
    batches: Any
    num_threads: int

    def trained(self, train: Train, num_steps: int) -> nn.Module:
        """The model after a few steps."""
        objective = self.objective().train()
        train(objective, self.batches, num_steps)
        return objective

    def rates(self, ours: Train, peer: Train, turns: Turns) -> tuple[list[float], list[float]]:
        """Samples a second of each turn that counts, of both sides.

        Where a training's arrays come to lie makes its steps a percent or two slower or faster, all along. So there are
        several rounds of new trainings, and the sides begin in turn.
        """
        found: tuple[list[float], list[float]] = [], []
        for number in range(ROUNDS):
            order = (1, -1)[number % 2]
            pair = self._round(*(ours, peer)[::order], turns)
            for rates, more in zip(found, pair[::order], strict=True):
                rates.extend(more)
        return found

    def _round(self, first: Train, second: Train, turns: Turns) -> tuple[list[float], list[float]]:
        watches = [Stopwatch(copy.deepcopy(self.batches), turns) for _ in range(2)]  # they remember what was drawn
        watches[0].other, watches[1].other = watches[1], watches[0]

        def side(watch: Stopwatch, train: Train) -> None:
            torch.set_num_threads(self.num_threads)  # each thread has a number of its own
            objective = self.objective().train()
            watch.run(lambda: train(objective, watch, turns.num_steps))

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(side, watch, train) for watch, train in zip(watches, (first, second), strict=True)]
            watches[0].mine.release()
            for one in running:
                one.result()
        samples = turns.steps * self.batches.batch_size
        found = [[samples / seconds for seconds in watch.seconds[WARM_UP_TURNS:]] for watch in watches]
        assert len(found[0]) == len(found[1]) == turns.number
        return found[0], found[1]


def legs(folder: Path, quick: bool, num_threads: int) -> list[Leg]:
    """The scan leg, in the demo's shape, and the text leg, in about the demo's."""
    patch_size, batch_size, width = (16, 8, 8) if quick else (24, 32, 16)
    volumes = stored_volumes(folder, 2, 64 if quick else 128)
    scans = scan_batches(volumes, patch_size, batch_size, num_threads)
    tokenizer = Words(1000 if quick else 8000)
    texts = text_batches(tokenizer, 2000, 64, 8 if quick else 32)
    shape = {"num_layers": 2, "hidden_size": 32 if quick else 256, "max_length": 64, "dropout": 0.0}
    return [
        Leg("scans", lambda: scan_objective(patch_size=patch_size, width=width), scans, num_threads),
        Leg("text", lambda: text_objective(tokenizer, **shape), texts, num_threads),
    ]


def fewlabel(folder: Path, checkpoint_every: int = NEVER) -> Train:
    """`fit`, each time in a new run folder. It always saves after the last step, which the clocks leave out."""
    numbers = count()

    def train(objective: nn.Module, batches: Batches, num_steps: int) -> None:
        config = TrainingConfig(
            num_steps=num_steps, batch_size=batches.batch_size, lr=LR, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM,
            schedule="constant", warmup_fraction=0, log_every=LOG_EVERY, checkpoint_every=checkpoint_every,
        )  # fmt: skip
        run = RunConfig(output=folder / f"run-{checkpoint_every}-{next(numbers)}")
        fit(objective, batches, config, RunFolder(run.output, run), 0, "benchmark")

    return train


def optimizer_of(module: nn.Module) -> torch.optim.Optimizer:
    """AdamW, fused as ours is, without decay of biases and norms."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), fused=True)


def bare(objective: nn.Module, batches: Batches, num_steps: int) -> None:
    """The loop that one writes by hand, with nothing in it but the loss now and then."""
    optimizer = optimizer_of(objective)
    losses = []
    for number in range(num_steps):
        step = objective(batches.batch(number))
        loss = step.loss_sum / step.count
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (number + 1) % LOG_EVERY == 0:
            losses.append(loss.item())


class Loss(nn.Module):
    """An objective as HF's Trainer wants it."""

    accepts_loss_kwargs = False

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, **batch: Any) -> dict[str, Any]:
        """`{"loss": mean}`."""
        step = self.objective(batch)
        return {"loss": step.loss_sum / step.count}


class Whole(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Batches as items, made as they are asked for."""

    def __init__(self, batches: Batches, num_steps: int) -> None:
        self.batches, self.num_steps = batches, num_steps

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Any:
        return self.batches.batch(step)


class WholeBatchTrainer(Trainer):
    """HF's Trainer on batches that come whole."""

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:  # type: ignore[type-arg]
        """The batches in their order."""
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=None)  # type: ignore[arg-type]


def hf_trainer(folder: Path) -> Train:
    """HF's Trainer, with nothing switched on that takes time: no checkpoints, no trackers, no bar."""

    def train(objective: nn.Module, batches: Batches, num_steps: int) -> None:
        arguments = TrainingArguments(
            output_dir=str(folder / "trainer"), max_steps=num_steps, max_grad_norm=CLIP_NORM, logging_steps=LOG_EVERY,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        optimizer = optimizer_of(objective)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        data = Whole(batches, num_steps)
        WholeBatchTrainer(Loss(objective), arguments, train_dataset=data, optimizers=(optimizer, constant)).train()

    return train


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    """Both sides did the same work."""
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def main() -> None:
    """Runs all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes: does it run at all?")
    parser.add_argument("--turns", type=int, default=24, help="of each side of a comparison, 5 at least for a result")
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    options = parser.parse_args()
    num_threads = set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    ratios: dict[str, float] = {}
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain, saving, trainer = fewlabel(folder), fewlabel(folder, checkpoint_every=50), hf_trainer(folder)
        short = Turns(LOG_EVERY, max(2, options.turns // ROUNDS))
        # A checkpoint falls into the middle of each.
        long = Turns(50, max(2, options.turns // ROUNDS), first=25, hand_over=10)
        if options.quick:
            short, long = Turns(2, 2), Turns(4, 2, first=2, hand_over=4)
            saving = fewlabel(folder, checkpoint_every=4)
        for leg in legs(folder / "store", options.quick, num_threads):
            for peer in (bare, trainer):
                assert_alike(leg.trained(plain, 6), leg.trained(peer, 6))
            for key, ours, peer, turns in (
                ("bare", plain, bare, short),
                ("trainer", plain, trainer, short),
                ("checkpoint", saving, plain, long),
            ):
                found = leg.rates(ours, peer, turns)
                each = [a / b for a, b in zip(*found, strict=True)]
                name = f"{key}_{leg.name}"
                ratios[name] = median_ratio(*found)
                values[f"{name}_quartiles"] = statistics.quantiles(each, n=4)[::2]
                for side, rates in zip(("ours", "peer"), found, strict=True):
                    values[f"{name}_{side}_samples_per_s"] = statistics.median(rates)
                print(f"{name}: {ratios[name]:.3f}, half of the turns in {values[f'{name}_quartiles']}", flush=True)
    for key in ("bare", "checkpoint", "trainer"):
        ratios[key] = min(ratios[f"{key}_scans"], ratios[f"{key}_text"])
    finish("loop", ratios, values | {"quick": options.quick}, threads=num_threads)


if __name__ == "__main__":
    main()
