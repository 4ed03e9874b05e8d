"""Does the network wait for its data? The loop's own feed with one worker, beside the demo's network on one thread.

    python -m benchmarks.loader [--quick]

On the CPU. One process trains, on one thread, the demo's encoder with SimCLR (batches of 128 pairs of 24^3 views); one
worker makes the batches: which subjects, which crops, two views of each. The share of the time that the loop waits in
`Feed.next` is taken over some steps after a warm-up. The same is measured for 96^3 views (8 pairs a step) of five scans
of 192^3, too large to be kept: each crop is read from the compressed store, where the demo's small scans are kept
decompressed. Needs two CPUs, and a machine that does nothing else.

Ratio: `wait` (.05 / share of the time that the loop waits with 24^3 views, at least 1). A share below a thousandth
counts as a thousandth. As values: the shares, also of 96^3 views, and seconds a step with and without a worker.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import finish, refuse_without

os.environ["CUDA_VISIBLE_DEVICES"] = ""

try:
    from benchmarks.made_up import scan_batches, scan_objective, stored_volumes
    from toolkit.training import TrainingConfig, set_num_threads
    from toolkit.training.engine import Engine
    from toolkit.training.feed import Feed
except ModuleNotFoundError as missing:
    refuse_without(missing)

AIM, LEAST = 0.05, 0.001
DEMO = {"width": 16, "stem_kernel": 5, "stem_stride": 3}


def waiting(batches: Any, patch_size: int, num_workers: int, num_steps: int, warm_up: int) -> tuple[float, float]:
    """Share of the time that the loop waits for its data, and seconds a step."""
    config = TrainingConfig(num_steps=warm_up + num_steps + 8, batch_size=batches.batch_size, num_workers=num_workers)
    engine = Engine(scan_objective(patch_size=patch_size, **DEMO), config, seed=0)
    feed = Feed(batches, config, config.num_steps, engine.accelerator.device)
    engine.begin(feed, 0)
    for step in range(warm_up):
        engine.step(feed, step, config.lr, 0.0).loss.item()
    waited, started = feed.waited_s, time.perf_counter()
    for step in range(warm_up, warm_up + num_steps):
        engine.step(feed, step, config.lr, 0.0).loss.item()
    seconds = time.perf_counter() - started
    return (feed.waited_s - waited) / seconds, seconds / num_steps


def main() -> None:
    """Both sizes of views, with and without a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement, 5 at least for a result")
    options = parser.parse_args()
    num_rounds = 1 if options.quick else options.rounds
    set_num_threads(1)
    # Side of the views: scans, their side, pairs a step, steps, steps of the warm-up.
    sizes = {24: (2, 112, 128, 20, 4), 96: (5, 192, 8, 8, 3)}
    if options.quick:
        sizes = {24: (2, 64, 16, 4, 2), 32: (2, 64, 4, 2, 1)}
    shares: dict[int, list[float]] = {patch_size: [] for patch_size in sizes}
    values: dict[str, Any] = {"quick": options.quick}
    with tempfile.TemporaryDirectory() as name:
        for patch_size, (num_volumes, side, batch_size, num_steps, warm_up) in sizes.items():
            volumes = stored_volumes(Path(name) / str(side), num_volumes, side)
            batches = scan_batches(volumes, patch_size, batch_size, 1)
            _, alone = waiting(batches, patch_size, 0, num_steps, warm_up)
            seconds = []
            for number in range(num_rounds):
                share, beside = waiting(batches, patch_size, 1, num_steps, warm_up)
                shares[patch_size].append(share)
                seconds.append(beside)
                print(f"{patch_size}^3, round {number + 1}: waits {share:.2%} of {beside:.3g} s a step", flush=True)
            values |= {
                f"wait_share_{patch_size}": statistics.median(shares[patch_size]),
                f"s_per_step_{patch_size}": statistics.median(seconds),
                f"s_per_step_{patch_size}_without_worker": alone,
            }
    wait = statistics.median(shares[24])
    finish("loader", {"wait": AIM / max(wait, LEAST)}, values, threads=1, workers=1)


if __name__ == "__main__":
    main()
