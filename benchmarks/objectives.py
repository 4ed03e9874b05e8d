"""Does a method of the toolkit cost more than the same method written by hand around the same encoder?

    python -m benchmarks.objectives [--quick] [--methods simclr moco]

On the CPU. For each scan method: a step as the engine takes it (batch from the feed, loss, gradient, clipping,
optimiser, what follows a step), against the few lines that one writes from the paper (`by_hand.py`), with the same
weights, batches and AdamW. First a few steps of both must leave the same encoder, or the benchmark fails. Time: both
sides live in one process and take turns of a few steps. Memory: the largest resident size of a fresh process that takes
a few steps, less that of one that takes a step of next to nothing. There glibc gives each freed array back: by itself
it keeps those below 32 MB, and how they come to lie moves the peak of the same step by a tenth from start to start.

Ratios: `time_METHOD` and `memory_METHOD` (by hand / ours, medians over rounds, at least .95 each); `time` and `memory`
are those of the worst method, which `values` name.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.report import finish, interleaved, median_ratio, refuse_without

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # there the host runs ahead of the device, and the clock would lie

try:
    import torch
    from torch import Tensor, nn

    from benchmarks.by_hand import BY_HAND
    from toolkit.encoders.networks import NETWORKS
    from toolkit.encoders.scan import ScanEncoder
    from toolkit.objectives import OBJECTIVES, Objective, build_objective
    from toolkit.scans import Preprocessing
    from toolkit.training import TrainingConfig, peak_memory_gb, set_num_threads
    from toolkit.training.engine import Engine
    from toolkit.training.feed import Feed
    from toolkit.training.optim import build_optimizer
except ModuleNotFoundError as missing:
    refuse_without(missing)

NUM_BATCHES, WARM_UP_STEPS, ALIKE_STEPS = 4, 3, 3
PROGRESS = 0.5


class Batches:
    """Made-up views, made before the clock runs."""

    def __init__(self, batch_size: int, patch_size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, 1, patch_size, patch_size, patch_size)
        self.batches = []
        for number in range(NUM_BATCHES):
            view0 = torch.rand(shape, generator=generator)
            view1 = view0 + 0.1 * torch.rand(shape, generator=generator)
            self.batches.append({"view0": view0, "view1": view1, "draws": torch.arange(batch_size) + 1000 * number})

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Tensor]:
        """One of them."""
        return self.batches[step % NUM_BATCHES]


Steps = Callable[[int], float]
"""Takes so many steps; gives the last loss."""


def our_steps(objective: Objective, batches: Batches, config: TrainingConfig) -> Steps:
    """As `fit` takes them."""
    engine = Engine(objective, config, seed=0)
    feed = Feed(batches, config, config.num_steps, engine.accelerator.device)
    engine.begin(feed, 0)
    steps = iter(range(config.num_steps))

    def take(number: int) -> float:
        for _ in range(number):
            outcome = engine.step(feed, next(steps), config.lr, PROGRESS)
        return outcome.loss.item()

    return take


def steps_by_hand(objective: nn.Module, batches: Batches, config: TrainingConfig) -> Steps:
    """As one writes them."""
    module = objective.train()
    optimizer = build_optimizer(module, config.optimizer, lr=config.lr, weight_decay=config.weight_decay)
    steps = iter(range(config.num_steps))

    def take(number: int) -> float:
        for _ in range(number):
            loss = module(batches.batch(next(steps)))
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            module.after(PROGRESS)
        return loss.item()

    return take


def pair_of(name: str, patch_size: int) -> tuple[Objective, nn.Module]:
    """A method and its peer, with the same weights."""
    cls = OBJECTIVES.get(name)
    family = (cls.families or ("cnn",))[0]
    network = {"cnn": "small_resnet", "vit": "vit"}[family]
    config = NETWORKS.get(network).Config(patch_size=patch_size)
    ours = build_objective(cls.Config(), ScanEncoder(config, Preprocessing()).untrained(0))
    return ours, BY_HAND[name](ours)


def assert_alike(name: str, batches: Batches, config: TrainingConfig, patch_size: int) -> None:
    """Both sides do the same work: they lose the same, and their encoders go the same way.

    Not weight by weight: a bias before a batch norm has a gradient of rounding alone, and AdamW makes it a large one.
    """
    ours, theirs = pair_of(name, patch_size)
    start = flat(ours.encoder)
    losses = our_steps(ours, batches, config)(ALIKE_STEPS), steps_by_hand(theirs, batches, config)(ALIKE_STEPS)
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4, msg=lambda text: f"{name}: {text}")
    moved, apart = flat(ours.encoder) - start, flat(ours.encoder) - flat(theirs.encoder)
    if apart.norm() > 0.1 * moved.norm():
        sys.exit(
            f"{name}: after {ALIKE_STEPS} steps the encoders are {apart.norm() / moved.norm():.0%} of their way apart"
        )


def flat(module: nn.Module) -> Tensor:
    """All its parameters in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def timed(name: str, rounds: int, turn: int, batches: Batches, config: TrainingConfig, patch: int) -> dict[str, Any]:
    """Seconds of a step, each side's rounds."""
    ours, theirs = pair_of(name, patch)
    sides = {"ours": our_steps(ours, batches, config), "by_hand": steps_by_hand(theirs, batches, config)}
    for take in sides.values():
        take(WARM_UP_STEPS)

    def seconds(take: Steps) -> float:
        started = time.perf_counter()
        take(turn)
        return (time.perf_counter() - started) / turn

    print(name)
    return interleaved({side: lambda take=take: seconds(take) for side, take in sides.items()}, rounds)


def peak_mb(name: str, side: str, batch_size: int, patch_size: int, num_threads: int) -> float:
    """The most memory of this process after a few steps; with no side, after a step of next to nothing."""
    set_num_threads(num_threads)
    config = TrainingConfig(num_steps=WARM_UP_STEPS, batch_size=batch_size)
    ours, theirs = pair_of(name, patch_size)
    if side:
        batches = Batches(batch_size, patch_size)
        take = our_steps(ours, batches, config) if side == "ours" else steps_by_hand(theirs, batches, config)
        take(WARM_UP_STEPS)
    else:
        steps_by_hand(theirs, Batches(2, patch_size), config)(1)
    return peak_memory_gb() * 1000


def in_a_process(*what: Any) -> float:
    """`peak_mb` in a process of its own; the fork server has imported what takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.by_hand"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(peak_mb, *what).result()


def main() -> None:
    """Runs all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=9, help="of each method and side, 5 at least for a result")
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    scans = [name for name in OBJECTIVES if OBJECTIVES.get(name).modality == "scans"]
    parser.add_argument("--methods", nargs="+", choices=scans, default=scans, help="all by default")
    options = parser.parse_args()
    num_threads = set_num_threads(options.threads)
    rounds, turn, patch_size = (2, 1, 24) if options.quick else (options.rounds, 3, 24)
    batch_size, memory_batch_size = (8, 16) if options.quick else (64, 256)
    steps = max(ALIKE_STEPS, WARM_UP_STEPS + rounds * turn)
    config = TrainingConfig(num_steps=steps, batch_size=batch_size)
    batches = Batches(batch_size, patch_size)
    ratios: dict[str, float] = {}
    values: dict[str, Any] = {"quick": options.quick}
    for name in options.methods:
        assert_alike(name, batches, config, patch_size)
        found = timed(name, rounds, turn, batches, config, patch_size)
        ratios[f"time_{name}"] = median_ratio(found["by_hand"], found["ours"])
        values[f"{name}_ms"] = 1000 * statistics.median(found["ours"])
        values[f"{name}_by_hand_ms"] = 1000 * statistics.median(found["by_hand"])
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)  # of the processes that are measured
    for name in options.methods:
        sides = {
            side: lambda side=side, name=name: in_a_process(name, side, memory_batch_size, patch_size, num_threads)
            for side in ("ours", "by_hand")
        }
        print(name)
        base = in_a_process(name, "", memory_batch_size, patch_size, num_threads)
        peaks = interleaved(sides, 1 if options.quick else max(5, rounds // 2))
        ours, by_hand = ([peak - base for peak in peaks[side]] for side in sides)
        ratios[f"memory_{name}"] = median_ratio(by_hand, ours)
        values[f"{name}_mb"], values[f"{name}_by_hand_mb"] = statistics.median(ours), statistics.median(by_hand)
    for kind in ("time", "memory"):
        worst = min(options.methods, key=lambda name: ratios[f"{kind}_{name}"])
        ratios[kind], values[f"{kind}_worst"] = ratios[f"{kind}_{worst}"], worst
    finish("objectives", ratios, values, threads=num_threads)


if __name__ == "__main__":
    main()
