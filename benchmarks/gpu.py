"""Every GPU measurement of the project, in at most eight minutes on one card, from a checkout.

    python -m benchmarks.gpu [--quick]

Both legs with float32, bf16 and fp16: step time, share of it in which the host waits for data (the GPU may still be at
work), peak memory, samples and tokens a second, and model FLOP utilisation: what torch counts of a step's forward and
backward pass, by the step time, by the dense bf16 peak of the card (left out for cards that `PEAK_TFLOPS` does not
name). Then SimCLR with an effective
batch of 4,096 through gradient caching against its portion alone, and views: those that the CPU renders a second, and
milliseconds for one of 96^3 in batches of 16 on the card (`benchmarks.views` compares these with TorchIO's).
Made-up data; five windows of steps each, of which the median counts. Steps run through the engine that `fit` runs on,
without metrics and checkpoints. float32 is torch's default: TF32 in convolutions, not in matrix products.

Ratios: `bf16_scans`, `bf16_text`, `fp16_scans`, `fp16_text` (float32's step time / theirs), `caching_memory` (the
portion's peak / that of 4,096, at least 1/1.3), `caching_time` (seconds a sample, the portion alone / 4,096).

Without a GPU only `--quick` runs: tiny sizes on the CPU, to see that the code works; its figures say nothing.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import finish, refuse_without

try:
    import numpy as np
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.made_up import Words, scan_batches, scan_objective, stored_volumes, text_batches, text_objective
    from benchmarks.torchio_peer import BATCH_ON_GPU, made_up_volume, timed
    from benchmarks.views import batches_on_gpu
    from toolkit.scans.store import StoredVolume
    from toolkit.training import Batches, TrainingConfig, set_num_threads
    from toolkit.training.engine import Engine
    from toolkit.training.feed import Feed
except ModuleNotFoundError as missing:
    refuse_without(missing)

PEAK_TFLOPS = {
    "B200": 2250, "H200": 989, "H100 NVL": 835, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L40": 181,
    "L4": 121, "A10G": 70, "A10": 125, "RTX A6000": 155, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
"""Dense bf16 with float32 sums, TFLOP/s, by NVIDIA's data sheets. The first name that the card's name holds counts."""
FULL = {
    "scans": {"patch_size": 48, "width": 32, "blocks": (1, 1, 1, 1), "stem_kernel": 3, "stem_stride": 2},
    "scan_batch": 128, "scan_side": 192, "cached_patch_size": 32, "cached_batch": 4096, "portion": 128,
    "text": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "max_length": 128},
    "vocab_size": 32000, "text_batch": 256, "num_texts": 100_000, "window_s": 2.0,
}  # fmt: skip
QUICK = {
    "scans": {"patch_size": 16, "width": 4, "blocks": (1, 1, 1, 1), "stem_kernel": 3, "stem_stride": 2},
    "scan_batch": 8, "scan_side": 48, "cached_patch_size": 16, "cached_batch": 32, "portion": 8,
    "text": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "max_length": 32},
    "vocab_size": 500, "text_batch": 8, "num_texts": 200, "window_s": 0.2,
}  # fmt: skip
NUM_WINDOWS, MAX_STEPS, ENOUGH_S = 5, 50, 330.0


def measure(build: Callable[[], nn.Module], batches: Batches, window_s: float, **training: Any) -> dict[str, float]:
    """Steps of one objective in one precision.

    Args:
        build: Makes the objective.
        batches: Its data.
        window_s: Seconds that each of five windows takes at most, if a step takes less.
        **training: See `TrainingConfig`.

    Returns:
        `step_ms`, `samples_per_s`, `data_wait` (share), `portions` (of a batch), `tflops` (1e12 operations a step that
        torch counts, a second pass of gradient caching included), and where they exist `peak_mb`, `tokens_per_s`.
    """
    gc.collect()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    config = TrainingConfig(num_steps=10**6, batch_size=batches.batch_size, **training)  # type: ignore[attr-defined]
    engine = Engine(build(), config, seed=0)
    feed = Feed(batches, config, config.num_steps, engine.accelerator.device)
    engine.begin(feed, 0)

    def run(steps: Sequence[int]) -> float:
        feed.waited_s, started = 0.0, time.perf_counter()
        for step in steps:
            outcome = engine.step(feed, step, lr=1e-4, progress=0.0)
        outcome.loss.item()  # waits for the GPU
        return time.perf_counter() - started

    with FlopCounterMode(display=False) as counter:
        run([0])
    run([1])  # the first after whatever compiles or tunes itself
    num_steps = max(1, min(MAX_STEPS, int(window_s / run([2]))))
    seconds, waits, tokens = [], [], []
    for window in range(NUM_WINDOWS):
        steps = range(3 + window * num_steps, 3 + (window + 1) * num_steps)
        seconds.append(run(steps) / num_steps)
        waits.append(feed.waited_s / num_steps / seconds[-1])
        if hasattr(batches, "num_tokens"):
            tokens.append(sum(map(batches.num_tokens, steps)) / num_steps / seconds[-1])
    step_s = statistics.median(seconds)
    found = {
        "step_ms": 1000 * step_s,
        "samples_per_s": config.batch_size / step_s,
        "data_wait": statistics.median(waits),
        "portions": engine.layout.num_shards,
        "tflops": counter.get_total_flops() / 1e12,
    }
    if on_gpu:
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    if tokens:
        found["tokens_per_s"] = statistics.median(tokens)
    return found


def views_per_s(volumes: Sequence[StoredVolume], patch_size: int, num_threads: int, num_views: int) -> float:
    """Views that all CPU threads render in a second."""
    batches, rates = scan_batches(volumes, patch_size, num_views, num_threads), []
    for window in range(NUM_WINDOWS + 1):
        started = time.perf_counter()
        rates.append(len(batches.views(window, 0)) / (time.perf_counter() - started))
    return float(np.median(rates[1:]))


def peak_tflops(card: str) -> float | None:
    """The card's dense bf16 peak, where it is known."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in card), None)


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, also on a CPU: does it run at all?")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not options.quick:
        sys.exit("benchmarks.gpu: no GPU here; --quick runs tiny sizes on the CPU, to see that the code works")
    began, num_threads = time.monotonic(), set_num_threads(None)
    size: dict[str, Any] = QUICK if options.quick else FULL
    card = torch.cuda.get_device_name() if on_gpu else "no GPU: tiny sizes on the CPU, these figures say nothing"
    print(f"device: {card}", flush=True)
    workers = min(12, max(1, num_threads - 2)) if on_gpu else 0
    ratios: dict[str, float] = {}
    values: dict[str, Any] = {"quick": options.quick, "workers": workers}

    def keep(name: str, found: dict[str, float], precision: str) -> dict[str, float]:
        peak = peak_tflops(card)
        if peak and precision != "no" and found["portions"] == 1:  # else a second pass is counted, or one that failed
            found["flop_utilisation"] = found["tflops"] / (found["step_ms"] / 1000) / peak
        values.update({f"{name}_{key}": value for key, value in found.items()})
        print(f"{time.monotonic() - began:4.0f} s  {name}:", {k: float(f"{v:.3g}") for k, v in found.items()})
        sys.stdout.flush()
        return found

    with tempfile.TemporaryDirectory() as folder:
        volumes = stored_volumes(Path(folder), 2, size["scan_side"])
        words = Words(size["vocab_size"])
        scans = scan_batches(volumes, size["scans"]["patch_size"], size["scan_batch"], 1 if workers else num_threads)
        texts = text_batches(words, size["num_texts"], size["text"]["max_length"], size["text_batch"])
        legs: dict[str, tuple[Callable[[], nn.Module], Any, int]] = {
            "scans": (lambda: scan_objective(batch_norm=False, **size["scans"]), scans, workers),
            "text": (lambda: text_objective(words, **size["text"]), texts, min(4, workers)),
        }
        values["views_per_s"] = views_per_s(volumes, size["scans"]["patch_size"], num_threads, 8 * size["scan_batch"])
        if on_gpu:
            on_card = timed(batches_on_gpu(made_up_volume(160), 96), 4 * BATCH_ON_GPU, torch.cuda.synchronize)
            values["view_96_on_gpu_ms"] = statistics.median(on_card() for _ in range(5))
        step_ms = {}
        for precision in ("no", "bf16") + (("fp16",) if on_gpu else ()):
            for leg, (build, batches, num_workers) in legs.items():
                name = f"{leg}_{'fp32' if precision == 'no' else precision}"
                if precision == "fp16" and time.monotonic() - began > ENOUGH_S / 2:
                    print(f"{name} is left out, for the time")
                    continue
                training = {"precision": precision, "num_workers": num_workers}
                found = keep(name, measure(build, batches, size["window_s"], **training), precision)
                step_ms[leg, precision] = found["step_ms"]
                if precision != "no":
                    ratios[f"{precision}_{leg}"] = step_ms[leg, "no"] / found["step_ms"]
        caching = {}
        shape = size["scans"] | {"patch_size": size["cached_patch_size"]}
        for batch_size in (size["portion"], size["cached_batch"]):
            if time.monotonic() - began > ENOUGH_S:
                print(f"batch {batch_size} in portions is left out, for the time")
                continue
            batches = scan_batches(volumes, shape["patch_size"], batch_size, 1 if workers else num_threads)
            training = {"precision": "bf16", "micro_batch_size": size["portion"], "num_workers": workers}
            found = measure(lambda: scan_objective(batch_norm=False, **shape), batches, size["window_s"], **training)
            caching[batch_size] = keep(f"batch_{batch_size}_in_{size['portion']}", found, "bf16")
        if len(caching) == 2:
            alone, cached = caching.values()
            ratios["caching_time"] = cached["samples_per_s"] / alone["samples_per_s"]
            if on_gpu:
                ratios["caching_memory"] = alone["peak_mb"] / cached["peak_mb"]
    values["seconds"] = time.monotonic() - began
    finish("gpu", ratios, values, threads=num_threads, gpu=card if on_gpu else None)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
