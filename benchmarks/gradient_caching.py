"""Does gradient caching give a large batch in the memory of a small one?

    python -m benchmarks.gradient_caching [--quick]

A SimCLR step (group norm in the encoder, layer norm in the head) at effective batch 1,024 in portions of 64, against
batch 64 alone and, for scale, against a plain batch of 256. Each measurement is a fresh process that makes its
batches, its model and its AdamW, and takes a warm-up step and one more. On a CPU the memory is the process's largest
resident size less that of a process that only imports; on a GPU, what torch allocated at most. The time is that of a
sample in the last step, batches included; gradient caching makes each batch and goes through the encoder twice.

Ratios: `memory` (batch 64 alone / 1,024 in portions, at least 1/1.3), `memory_of_plain` (256 at once / 1,024 in
portions), `time_of_plain` (seconds a sample, 256 at once / 1,024 in portions), medians over rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.report import finish, median_ratio, refuse_without

FULL = {"cached": (1024, 64), "micro": (64, None), "plain": (256, None)}
QUICK = {"cached": (64, 8), "micro": (8, None), "plain": (32, None)}
ONLY_IMPORTS = (0, None)


def measure(batch_size: int, micro_batch_size: int | None, shape: dict[str, int]) -> dict[str, Any]:
    """Peak memory and time of SimCLR steps, of this very process.

    Args:
        batch_size: Of the optimiser's step; 0 only imports.
        micro_batch_size: What goes through the encoder at once.
        shape: Of the scan encoder.

    Returns:
        `peak_mb`, `s_per_sample`, `threads`, `gpu` (a name or None).
    """
    import resource
    import tempfile
    import time
    from pathlib import Path

    try:
        import torch

        from benchmarks.made_up import scan_batches, scan_objective, stored_volumes
        from toolkit.training import TrainingConfig, set_num_threads
        from toolkit.training.engine import Engine
        from toolkit.training.feed import Feed
    except ModuleNotFoundError as missing:
        refuse_without(missing)
    num_threads, on_gpu, seconds = set_num_threads(None), torch.cuda.is_available(), 0.0
    if batch_size:
        with tempfile.TemporaryDirectory() as name:
            volumes = stored_volumes(Path(name), 2, 96)
            config = TrainingConfig(num_steps=2, batch_size=batch_size, micro_batch_size=micro_batch_size)
            engine = Engine(scan_objective(batch_norm=False, **shape), config, seed=0)
            batches = scan_batches(volumes, shape["patch_size"], batch_size, num_threads)
            feed = Feed(batches, config, config.num_steps, engine.accelerator.device)
            engine.begin(feed, 0)
            for step in range(config.num_steps):
                started = time.perf_counter()
                engine.step(feed, step, config.lr, 0.0).loss.item()
                seconds = time.perf_counter() - started
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else kilobytes / 1024,
        "s_per_sample": seconds / max(batch_size, 1),
        "threads": num_threads,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
    }


def in_a_process(batch_size: int, micro_batch_size: int | None, shape: dict[str, int]) -> dict[str, Any]:
    """`measure` in a fresh process. Ours imports nothing large: a process counts what its parent had at the start."""
    one = json.dumps([batch_size, micro_batch_size, shape])
    command = [sys.executable, "-m", "benchmarks.gradient_caching", "--one", one]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each size, 5 at least for a result")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    sizes = QUICK if options.quick else FULL
    shape = {"patch_size": 24 if options.quick else 32, "width": 16, "stem_kernel": 3, "stem_stride": 2}
    peaks: dict[str, list[float]] = {name: [] for name in sizes}
    times: dict[str, list[float]] = {name: [] for name in sizes}
    for number in range(1 if options.quick else options.rounds):
        imports = in_a_process(*ONLY_IMPORTS, shape)
        for name in list(sizes)[:: -1 if number % 2 else 1]:
            found = in_a_process(*sizes[name], shape)
            peaks[name].append(found["peak_mb"] - imports["peak_mb"])
            times[name].append(found["s_per_sample"])
            print(f"round {number + 1}, {name}: {peaks[name][-1]:.0f} MB, {1000 * times[name][-1]:.1f} ms a sample")
            sys.stdout.flush()
    ratios = {
        "memory": median_ratio(peaks["micro"], peaks["cached"]),
        "memory_of_plain": median_ratio(peaks["plain"], peaks["cached"]),
        "time_of_plain": median_ratio(times["plain"], times["cached"]),
    }
    values: dict[str, Any] = {"quick": options.quick, "imports_mb": imports["peak_mb"]}
    for name, (batch_size, micro_batch_size) in sizes.items():
        key = f"batch_{batch_size}" + (f"_in_{micro_batch_size}" if micro_batch_size else "")
        values[f"{key}_peak_mb"] = statistics.median(peaks[name])
        values[f"{key}_ms_per_sample"] = 1000 * statistics.median(times[name])
    finish("gradient_caching", ratios, values, threads=imports["threads"], gpu=imports["gpu"])


if __name__ == "__main__":
    main()
