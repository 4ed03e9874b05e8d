"""A corpus of a gigabyte, tokenised and packed: how much memory, how fast?

    python -m benchmarks.large_corpus [--quick] [--folder FOLDER]

The corpus is made from the cards' texts with a seed (`benchmarks.made_up_texts`). In a process of its own: a tokenizer
of 32,000 pieces is trained on a sample of the stream, the stream is tokenised into a token store, and the batches of
320 steps of 32 packed rows of 128 tokens are drawn, and of one far on. The peak is the process's largest resident
set, mapped files included. What a run of `text_pretrain` does besides is not measured: the search for repeats, the
counts of which pieces occur together, training, and the record of what was seen; and the tokenizer learns from 5
million characters, fewer than by default.

Ratio: `memory`, 2 GiB over the peak.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import finish, refuse_without

try:
    from benchmarks.made_up_texts import make_texts
    from toolkit.errors import CheckpointError
    from toolkit.text import (
        MaskedBatches,
        MaskingConfig,
        TokenizerConfig,
        TokenStore,
        load_tokenizer,
        train_tokenizer,
    )
    from toolkit.text.sources import TextSource, open_source
    from toolkit.training import set_num_threads
except ModuleNotFoundError as missing:
    refuse_without(missing)

LIMIT_MIB = 2048


def measure(folder: Path, pieces: int, max_characters: int, num_threads: int) -> dict[str, float]:
    """Tokenises and packs what lies in `folder / "texts"`."""
    stream = open_source(TextSource(path=str(folder / "texts"), language_pattern=r"([a-zA-Z_]+)\.txt$"))
    values: dict[str, float] = {}
    began = time.perf_counter()
    try:
        tokenizer = load_tokenizer(folder / "tokenizer")
    except CheckpointError:
        config = TokenizerConfig(vocab_size=pieces, max_characters=max_characters)
        tokenizer = train_tokenizer(stream, config, folder / "tokenizer")
    values["tokenizer_s"] = time.perf_counter() - began
    values["after_tokenizer_mib"] = peak_mib()
    began = time.perf_counter()
    store = TokenStore.write(stream, tokenizer, folder / "tokens", num_threads=num_threads)
    values["store_s"] = time.perf_counter() - began
    values["after_store_mib"] = peak_mib()
    values |= {"texts": len(store), "tokens": len(store.tokens)}
    values["tokens_per_s"] = len(store.tokens) / values["store_s"]
    began = time.perf_counter()
    batches = MaskedBatches(store.cut(128), tokenizer, MaskingConfig(), batch_size=32, seed=0, packed=True)
    masks = [batches.batch(step)["attention_mask"] for step in range(320)]
    values["ms_per_batch"] = (time.perf_counter() - began) / 320 * 1000
    values["padding"] = 1 - float(sum(mask.float().mean() for mask in masks)) / len(masks)
    began = time.perf_counter()
    batches.batch(20_000)
    values["far_on_s"] = time.perf_counter() - began
    values["peak_mib"] = peak_mib()
    return values


def peak_mib() -> float:
    """The process's largest resident set so far."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[0]) / 1024


def main() -> None:
    """Makes the corpus, and measures in another process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 MB, under two minutes: does it run at all?")
    parser.add_argument("--folder", type=Path, help="keeps the corpus; a temporary one by default")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    num_threads = set_num_threads(options.threads)
    pieces, characters = (6000, 500_000) if options.quick else (32_000, 5_000_000)
    if options.measure:
        print(json.dumps(measure(options.folder, pieces, characters, num_threads)))
        return
    num_bytes = int((0.005 if options.quick else options.gigabytes) * 1e9)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        if not (folder / "texts").is_dir():
            make_texts(folder / "texts", num_bytes)
        command = [sys.executable, "-m", "benchmarks.large_corpus", "--measure", "--folder", str(folder)]
        command += ["--threads", str(num_threads), *["--quick"] * options.quick]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        values = json.loads(done.stdout.splitlines()[-1]) | {"corpus_mb": num_bytes / 1e6}
    finish("large_corpus", {"memory": LIMIT_MIB / values["peak_mib"]}, values, threads=num_threads)


if __name__ == "__main__":
    main()
