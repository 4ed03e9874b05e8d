"""Does a method of the toolkit cost more than the same method written by hand around the same encoder?

    python -m benchmarks.objectives [--quick] [--methods simclr moco]

On the CPU. For each scan method: a step as the engine takes it (batch from the feed, loss, gradient, clipping,
optimiser, what follows a step), against the few lines that one writes from the paper (`by_hand.py`), with the same
weights, batches and AdamW. First a few steps of both must leave the same encoder, or the benchmark fails. Time: two
processes for each method, in which the sides are built in turn, ours first in one and last in the other, and take turns
of a few steps. Memory: the largest resident size of a fresh process that takes a few steps, less that of one that takes
a step of next to nothing. There glibc gives each freed array back: by itself it keeps those below 32 MB, and how they
come to lie moves the peak of the same step by a tenth from start to start.

Ratios: `time_METHOD` and `memory_METHOD` (by hand / ours, medians over rounds, at least .95 each); `time` and `memory`
are those of the worst method, which `values` name. Under `values` too: milliseconds and MB of a step, and what a method
takes of SimCLR's around the same network, `cost_time_METHOD` and `cost_memory_METHOD`, which the methods' docs cite. A
method of several families has `METHOD_FAMILY` there for the others.
"""

import argparse
import ctypes
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

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

NUM_BATCHES, WARM_UP_STEPS, ALIKE_STEPS, MEMORY_STEPS = 4, 3, 3, 2
PROGRESS, PATCH_SIZE = 0.5, 24
M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt."""
NETWORKS_OF = {"cnn": "small_resnet", "vit": "vit"}
SIDES = ("ours", "by_hand")


class Row(NamedTuple):
    """A method around a network; what is not compared with lines by hand is there for the costs."""

    method: str
    family: str
    is_compared: bool

    @property
    def key(self) -> str:
        """Of its values."""
        return self.method if self.family == families(self.method)[0] else f"{self.method}_{self.family}"

    @property
    def reference(self) -> str:
        """The key of SimCLR around the same network."""
        return Row("simclr", self.family, False).key


class Size(NamedTuple):
    """Of a measurement."""

    batch: int
    rounds: int
    turn: int
    threads: int


class Batches:
    """Made-up views, made before the clock runs."""

    def __init__(self, batch_size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, 1, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE)
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


def families(method: str) -> tuple[str, ...]:
    """Kinds of networks that a method is measured around, its own first."""
    return OBJECTIVES.get(method).families or ("cnn",)


def rows_of(methods: Sequence[str]) -> list[Row]:
    """The methods, and what their costs need besides."""
    rows = [Row(method, families(method)[0], True) for method in methods]
    rows += [Row(method, family, False) for method in methods for family in families(method)[1:]]
    known = {row.key for row in rows}
    missing = {row.family for row in rows if row.reference not in known}
    return rows + [Row("simclr", family, False) for family in sorted(missing)]


def steps_of(side: str, module: Any, batches: Batches, config: TrainingConfig) -> Steps:
    """Of ours or by hand."""
    return (our_steps if side == "ours" else steps_by_hand)(module, batches, config)


def pair_of(row: Row) -> dict[str, nn.Module]:
    """A method and its peer, with the same weights, by side."""
    config = NETWORKS.get(NETWORKS_OF[row.family]).Config(patch_size=PATCH_SIZE)
    ours = build_objective(OBJECTIVES.get(row.method).Config(), ScanEncoder(config, Preprocessing()).untrained(0))
    return {"ours": ours, "by_hand": BY_HAND[row.method](ours)} if row.is_compared else {"ours": ours}


def assert_alike(row: Row, batches: Batches, config: TrainingConfig) -> None:
    """Both sides do the same work: they lose the same, and their encoders go the same way.

    Not weight by weight: a bias before a batch norm has a gradient of rounding alone, and AdamW makes it a large one.
    """
    pair = pair_of(row)
    start = flat(pair["ours"].encoder)
    losses = [steps_of(side, module, batches, config)(ALIKE_STEPS) for side, module in pair.items()]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4, msg=lambda text: f"{row.key}: {text}")
    ours, theirs = (flat(module.encoder) for module in pair.values())
    moved, apart = ours - start, ours - theirs
    if apart.norm() > 0.1 * moved.norm():
        share = apart.norm() / moved.norm()
        sys.exit(f"{row.key}: after {ALIKE_STEPS} steps the encoders are {share:.0%} of their way apart")


def flat(module: nn.Module) -> Tensor:
    """All its parameters in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def timed(row: Row, order: Sequence[str], size: Size) -> dict[str, list[float]]:
    """Seconds of a step, each side's rounds; the sides are built in this order."""
    set_num_threads(size.threads)
    batches = Batches(size.batch)
    steps = max(ALIKE_STEPS, WARM_UP_STEPS + size.rounds * size.turn)
    config = TrainingConfig(num_steps=steps, batch_size=size.batch)
    if order == SIDES:
        assert_alike(row, batches, config)
    pair, sides = pair_of(row), {}
    if order[0] == "by_hand":
        pair["ours"] = pair_of(row)["ours"]  # so that its weights, too, lie behind
    for side in order:
        sides[side] = steps_of(side, pair[side], batches, config)
        sides[side](WARM_UP_STEPS)

    def seconds(take: Steps) -> float:
        started = time.perf_counter()
        take(size.turn)
        return (time.perf_counter() - started) / size.turn

    return interleaved({side: lambda take=take: seconds(take) for side, take in sides.items()}, size.rounds)


def peak_mb(row: Row, side: str, batch_size: int, num_steps: int, threads: int) -> float:
    """The most memory of this process after a few steps."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, 2**20)
    set_num_threads(threads)
    config = TrainingConfig(num_steps=MEMORY_STEPS, batch_size=batch_size)
    steps_of(side, pair_of(row)[side], Batches(batch_size), config)(num_steps)
    return peak_memory_gb() * 1000


def in_a_process(function: Callable[..., Any], *what: Any) -> Any:
    """What a function gives in a process of its own; the fork server has imported what takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.by_hand", "toolkit.encoders.scan", "toolkit.training.engine"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *what).result()


def measure_time(row: Row, size: Size, ratios: dict[str, float], values: dict[str, Any]) -> None:
    """Puts a method's times under its keys."""
    orders = (SIDES, SIDES[::-1]) if row.is_compared else (SIDES[:1],)
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for order in orders:
        print(f"{row.key}: time, {' before '.join(order)}", flush=True)
        for side, seconds in in_a_process(timed, row, order, size).items():
            found[side] += seconds
    values[f"{row.key}_ms"] = 1000 * statistics.median(found["ours"])
    if row.is_compared:
        values[f"{row.key}_by_hand_ms"] = 1000 * statistics.median(found["by_hand"])
        ratios[f"time_{row.key}"] = median_ratio(found["by_hand"], found["ours"])


def measure_memory(row: Row, size: Size, ratios: dict[str, float], values: dict[str, Any]) -> None:
    """Puts a method's memory under its keys."""
    print(f"{row.key}: memory", flush=True)
    base = in_a_process(peak_mb, row, SIDES[row.is_compared], 2, 1, size.threads)  # next to nothing
    what = size.batch, MEMORY_STEPS, size.threads
    sides = {side: lambda side=side: in_a_process(peak_mb, row, side, *what) for side in SIDES[: 1 + row.is_compared]}
    found = {side: [peak - base for peak in peaks] for side, peaks in interleaved(sides, size.rounds).items()}
    values[f"{row.key}_mb"] = statistics.median(found["ours"])
    if row.is_compared:
        values[f"{row.key}_by_hand_mb"] = statistics.median(found["by_hand"])
        ratios[f"memory_{row.key}"] = median_ratio(found["by_hand"], found["ours"])


def main() -> None:
    """Runs all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5, help="in each process, 5 at least for a result")
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    scans = [name for name in OBJECTIVES if OBJECTIVES.get(name).modality == "scans"]
    parser.add_argument("--methods", nargs="+", choices=scans, default=scans, help="all by default")
    options = parser.parse_args()
    threads = set_num_threads(options.threads)
    rounds, turn, batches = (1, 1, (8, 16)) if options.quick else (options.rounds, 3, (64, 256))
    ratios: dict[str, float] = {}
    values: dict[str, Any] = {"quick": options.quick}
    rows = rows_of(options.methods)
    for row in rows:
        measure_time(row, Size(batches[0], rounds, turn if row.is_compared else 1, threads), ratios, values)
    for row in rows:
        measure_memory(row, Size(batches[1], rounds if row.is_compared else 1, 1, threads), ratios, values)
    for row in rows:
        for kind, unit in (("time", "ms"), ("memory", "mb")):
            values[f"cost_{kind}_{row.key}"] = values[f"{row.key}_{unit}"] / values[f"{row.reference}_{unit}"]
    for kind in ("time", "memory"):
        worst = min(options.methods, key=lambda name: ratios[f"{kind}_{name}"])
        ratios[kind], values[f"{kind}_worst"] = ratios[f"{kind}_{worst}"], worst
    finish("objectives", ratios, values, threads=threads)


if __name__ == "__main__":
    main()
