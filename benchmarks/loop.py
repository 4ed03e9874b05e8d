"""Does the one loop cost anything? `fit` against a bare loop, against itself with checkpoints, against HF's Trainer.

    python -m benchmarks.loop [--quick]

On the CPU. All sides get the same weights, batches, AdamW, learning rate and clipping, make their batches in the loop,
and use the same threads in one process. `fit` does what it does for users: metrics, collapse monitors, TensorBoard. A
round is one training run of each side. Its clock starts when the loop asks for the batch after the warm-up and stops
when it asks for the last one, by a stopwatch inside the batches that is the same for all; a ratio is the median over
rounds of the ratio within a round. First, a few steps of `fit` must give the weights that the peers get, or the
benchmark fails.

Ratios (samples a second, ours/peer): `bare_scans`, `bare_text` (at least .97); `checkpoint_scans`, `checkpoint_text`
(every 50 steps against never, at least .98); `trainer_text`, `trainer_scans` (at least 1). `bare`, `checkpoint` and
`trainer` are the worse of the two legs.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.report import finish, interleaved, median_ratio, refuse_without

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
WARM_UP = 5


class Stopwatch:
    """Batches that note when they are asked for."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.times: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        """See `Batches`."""
        self.times.append(time.perf_counter())
        return self.batches.batch(step, shard, num_shards)


@dataclass
class Leg:
    """One model and its data."""

    name: str
    objective: Callable[[], nn.Module]
    batches: Any

    def rate(self, train: Callable[[nn.Module, Batches, int], None], num_steps: int) -> tuple[float, nn.Module]:
        """Samples a second of `num_steps` steps after the warm-up, and the model."""
        objective, watch = self.objective().train(), Stopwatch(self.batches)
        train(objective, watch, WARM_UP + num_steps + 1)
        seconds = watch.times[WARM_UP + num_steps] - watch.times[WARM_UP]
        return num_steps * self.batches.batch_size / seconds, objective


def legs(folder: Path, quick: bool, num_threads: int) -> list[Leg]:
    """The scan leg, in the demo's shape, and the text leg, in about the demo's."""
    patch_size, batch_size, width = (16, 8, 8) if quick else (24, 32, 16)
    volumes = stored_volumes(folder, 2, 64 if quick else 128)
    scans = scan_batches(volumes, patch_size, batch_size, num_threads)
    tokenizer = Words(1000 if quick else 8000)
    texts = text_batches(tokenizer, 2000, 64, 8 if quick else 32)
    shape = {"num_layers": 2, "hidden_size": 32 if quick else 256, "max_length": 64, "dropout": 0.0}
    return [
        Leg("scans", lambda: scan_objective(patch_size=patch_size, width=width), scans),
        Leg("text", lambda: text_objective(tokenizer, **shape), texts),
    ]


def fewlabel(folder: Path, checkpoint_every: int = NEVER) -> Callable[[nn.Module, Batches, int], None]:
    """`fit`, each time in a new run folder. It always saves after the last step, which the clock leaves out."""
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
    """AdamW as the tutorials write it: no decay of biases and norms."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98))


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


def hf_trainer(folder: Path) -> Callable[[nn.Module, Batches, int], None]:
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
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison, 5 at least for a result")
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    options = parser.parse_args()
    num_threads = set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    ratios: dict[str, float] = {}
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, saving, trainer = fewlabel(folder), fewlabel(folder, checkpoint_every=50), hf_trainer(folder)
        short, long = (10, 50) if options.quick else (30, 100)
        for leg in legs(folder / "store", options.quick, num_threads):
            for ours, peer in ((plain, bare), (plain, trainer)):
                assert_alike(leg.rate(ours, 1)[1], leg.rate(peer, 1)[1])
            for key, ours, peer, num_steps in (
                ("bare", plain, bare, short),
                ("trainer", plain, trainer, short),
                ("checkpoint", saving, plain, long),
            ):
                print(f"{key}, {leg.name}: samples a second", flush=True)
                sides = {
                    "ours": lambda ours=ours, n=num_steps, leg=leg: leg.rate(ours, n)[0],
                    "peer": lambda peer=peer, n=num_steps, leg=leg: leg.rate(peer, n)[0],
                }
                found = interleaved(sides, options.rounds)
                ratios[f"{key}_{leg.name}"] = median_ratio(found["ours"], found["peer"])
                each = [a / b for a, b in zip(found["ours"], found["peer"], strict=True)]
                values[f"{key}_{leg.name}_lowest"], values[f"{key}_{leg.name}_highest"] = min(each), max(each)
                for side, rates in found.items():
                    values[f"{key}_{leg.name}_{side}_samples_per_s"] = statistics.median(rates)
    for key in ("bare", "checkpoint", "trainer"):
        ratios[key] = min(ratios[f"{key}_scans"], ratios[f"{key}_text"])
    finish("loop", ratios, values | {"quick": options.quick}, threads=num_threads)


if __name__ == "__main__":
    main()
