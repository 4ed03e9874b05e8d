"""Masked modelling against transformers' own path: the Trainer and its collator, on texts grouped or line by line.

    python -m benchmarks.mlm [--quick] [--folder FOLDER] [--curve FIGURE.png]

On the CPU: a BERT of 4 layers, 256 wide, in float32. Both sides start from the same weights and see the same texts
(those of the sentiment cards) as the same ids, mask single tokens at the same rates, and take the same AdamW, learning
rate and clipping; on one batch their losses must agree, or the benchmark fails. *Grouped* is what transformers'
`run_mlm.py` does by default: texts end to end, cut every 128 tokens. *Lines* is its other way: a text a row, padded to
the longest. The peer's examples are rows of `datasets`, an Arrow file mapped into memory, as in `run_mlm.py`. Ours:
packed rows of 128 tokens, attention within texts, the head at masked positions. With 250,000 words the ids are the
same, and the embeddings and the head have more rows.

Both sides of a comparison train in one process and take turns of a few steps (`benchmarks.loop`). A rate counts useful
tokens: no padding, no start and end. Peak memory is that of a process of its own each. `--curve` trains both to the end
instead and draws the loss of held-out texts, each side's over the useful tokens that it has seen.

Ratios: `grouped-32k`, `lines-32k`, `grouped-250k` (useful tokens a second, ours/peer); `memory` (peer/ours, 32k
grouped).
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import finish, median_ratio, refuse_without

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["MALLOC_MMAP_THRESHOLD_"] = "1000000"  # freed arrays go back, on both sides

try:
    import matplotlib.pyplot as plt
    import numpy as np
    import torch
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from transformers import (
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from benchmarks.loop import (
        CLIP_NORM,
        LOG_EVERY,
        LR,
        NEVER,
        WARM_UP_TURNS,
        WEIGHT_DECAY,
        Stopwatch,
        Turns,
        optimizer_of,
    )
    from toolkit.balance import BalanceConfig
    from toolkit.cards import load_card
    from toolkit.config import RunConfig
    from toolkit.encoders.text import TextEncoder, TextEncoderConfig
    from toolkit.errors import CheckpointError
    from toolkit.objectives import Objective, build_objective
    from toolkit.objectives.mlm import MLMConfig
    from toolkit.reports.style import COLOURS, drawing
    from toolkit.text import (
        MaskedBatches,
        MaskingConfig,
        TokenizerConfig,
        TokenStore,
        divide_corpora,
        load_tokenizer,
        train_tokenizer,
    )
    from toolkit.text.tokenizer import TextTokenizer
    from toolkit.training import RunFolder, TrainingConfig, fit, set_num_threads
except ModuleNotFoundError as missing:
    refuse_without(missing)

CARDS = ("sentiment_en", "sentiment_zh", "sentiment_id", "sentiment_sl")
MASKING = MaskingConfig(unit="token")  # as transformers' collator
FEATURES = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "special_tokens_mask": List(Value("int8")),
}
Look = Callable[[int], None]
"""Told of each batch before it is trained on: its useful tokens."""
Train = Callable[[Look, int], Any]


@dataclass(frozen=True)
class Data:
    """The texts of both sides.

    Attributes:
        store: Training texts, cut to a row's length.
        held_out: Texts that neither side trains on.
        tokenizer: Of both.
        vocab_size: Rows of the embeddings, at least those of the tokenizer.
        num_rows: Rows of a batch.
    """

    store: TokenStore
    held_out: TokenStore
    tokenizer: TextTokenizer
    vocab_size: int
    num_rows: int

    @property
    def max_length(self) -> int:
        """Tokens a row."""
        assert self.store.max_length is not None
        return self.store.max_length


def load_data(folder: Path, *, pieces: int, vocab_size: int, max_length: int, num_rows: int, most: int) -> Data:
    """Reads the cards and trains the tokenizer, or finds both in `folder`.

    Args:
        folder: Of corpora and tokenizers.
        pieces: Of the tokenizer.
        vocab_size: Rows of the embeddings.
        max_length: Tokens a row.
        num_rows: Rows of a batch.
        most: Texts, at most.
    """
    corpus = divide_corpora([load_card(name) for name in CARDS], 0, folder / "corpora").all_train
    corpus = corpus.take(np.random.default_rng(0).permutation(len(corpus))[:most])
    named = folder / f"tokenizer-{pieces}-{len(corpus)}"
    try:
        tokenizer = load_tokenizer(named)
    except CheckpointError:
        tokenizer = train_tokenizer(corpus.texts, TokenizerConfig(vocab_size=pieces), named)
    num_held_out = len(corpus) // 40
    parts = [corpus.take(np.arange(num_held_out, len(corpus))), corpus.take(np.arange(num_held_out))]
    stores = [TokenStore.build(part.texts, part.languages, tokenizer, max_length) for part in parts]
    return Data(*stores, tokenizer, max(vocab_size, len(tokenizer)), num_rows)


def our_objective(data: Data) -> Objective:
    """Our side, the same weights each time; embeddings and head have `data.vocab_size` rows."""
    config = TextEncoderConfig(num_layers=4, hidden_size=256, num_heads=4, max_length=data.max_length)
    encoder = TextEncoder.from_scratch(config, data.tokenizer)
    if data.vocab_size > encoder.vocab_size:
        with torch.random.fork_rng():
            encoder.model.resize_token_embeddings(data.vocab_size, mean_resizing=False)
    return build_objective(MLMConfig(), encoder)


def peer_model(objective: Objective) -> BertForMaskedLM:
    """The same weights in transformers' model."""
    peer = BertForMaskedLM(objective.encoder.model.config)
    peer.bert.load_state_dict(objective.encoder.model.state_dict())
    head = objective.head.transform
    peer.cls.predictions.transform.dense.load_state_dict(head[0].state_dict())
    peer.cls.predictions.transform.LayerNorm.load_state_dict(head[2].state_dict())
    peer.tie_weights()
    return peer


def train_ours(
    data: Data, look: Look, num_steps: int, *, evaluate_every: int | None = None, packed: bool = True
) -> dict[str, list[float]]:
    """`fit`, in a run folder that does not stay; gives its rows of metrics, if it looks at held-out texts."""
    rows = data.num_rows if packed else round(data.num_rows * texts_a_row(data))
    batches = MaskedBatches(
        data.store,
        data.tokenizer,
        MASKING,
        batch_size=rows,
        seed=0,
        balance=BalanceConfig(temperature=1),
        packed=packed,
    )
    objective = our_objective(data)
    config = TrainingConfig(
        num_steps=num_steps, batch_size=batches.batch_size, lr=LR, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM,
        schedule="constant", warmup_fraction=0, log_every=LOG_EVERY, checkpoint_every=NEVER,
        evaluate_every=evaluate_every,
    )  # fmt: skip
    fixed = held_out_batches(data)

    def evaluate() -> dict[str, float]:
        objective.eval()
        with torch.inference_mode():
            steps = [objective(batch) for batch in fixed]
        objective.train()
        return {"held_out": float(sum(step.loss_sum for step in steps)) / sum(step.count for step in steps)}

    with tempfile.TemporaryDirectory() as temporary:
        run = RunConfig(output=Path(temporary) / "run")
        folder = RunFolder(run.output, run)
        fit(objective, _Watched(batches, look), config, folder, 0, "ours", evaluate=evaluate)
        logged = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    return {"steps": [row["step"] for row in logged], "held_out": [row.get("held_out") for row in logged]}


class _Watched:
    """Batches that tell of themselves."""

    def __init__(self, batches: MaskedBatches, look: Look) -> None:
        self.batches, self.look = batches, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> Any:
        """See `Batches`."""
        self.look(int(self.batches.store.lengths[self.batches.sampler.layout(step).texts].sum()))
        return self.batches.batch(step, shard, num_shards)


def train_peer(
    data: Data, grouped: bool, look: Look, num_steps: int, *, evaluate_every: int | None = None
) -> dict[str, list[float]]:
    """Transformers' Trainer with its collator, and nothing switched on that takes time."""
    model = peer_model(our_objective(data))
    rows = data.num_rows if grouped else round(data.num_rows * texts_a_row(data))
    collator = DataCollatorForLanguageModeling(data.tokenizer.fast)

    def collate(examples: list[dict[str, Any]]) -> Any:
        look(sum(sum(not special for special in one["special_tokens_mask"]) for one in examples))
        return collator(examples)

    found: dict[str, list[float]] = {"steps": [], "held_out": []}
    with tempfile.TemporaryDirectory() as temporary:
        arguments = TrainingArguments(
            output_dir=temporary, max_steps=num_steps, per_device_train_batch_size=rows, max_grad_norm=CLIP_NORM,
            logging_steps=LOG_EVERY, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            remove_unused_columns=False, seed=0,
        )  # fmt: skip
        optimizer = optimizer_of(model)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        examples = mapped(partial(grouped_examples if grouped else line_examples, data), Path(temporary))
        callbacks = [_HeldOut(data, evaluate_every, found)] if evaluate_every else []
        Trainer(
            model, arguments, data_collator=collate, train_dataset=examples, optimizers=(optimizer, constant),
            callbacks=callbacks,
        ).train()  # fmt: skip
    return found


class _HeldOut(TrainerCallback):
    """Looks at held-out texts every so often."""

    def __init__(self, data: Data, every: int, found: dict[str, list[float]]) -> None:
        self.batches, self.every, self.found = held_out_batches(data), every, found

    def on_step_end(self, arguments: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Adds a point."""
        if state.global_step % self.every == 0:
            self.found["steps"].append(state.global_step)
            self.found["held_out"].append(peer_loss(model, self.batches))


def held_out_batches(data: Data) -> list[dict[str, Any]]:
    """The held-out texts with fixed masks, a text a row."""
    batches = MaskedBatches(
        data.held_out, data.tokenizer, MASKING, batch_size=64, seed=1, balance=BalanceConfig(temperature=1)
    )
    return [batches.batch(step) for step in range(len(data.held_out) // batches.batch_size)]


def peer_loss(model: BertForMaskedLM, batches: list[dict[str, Any]]) -> float:
    """The mean loss over masked tokens, as transformers computes it."""
    total = count = 0.0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            labels = torch.full_like(batch["input_ids"], -100)
            labels.view(-1)[batch["positions"]] = batch["targets"]
            loss = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
            total += float(loss) * len(batch["targets"])
            count += len(batch["targets"])
    model.train(was_training)
    return total / count


def texts_a_row(data: Data) -> float:
    """How many texts a row of grouped texts holds: lines are given as many, so that steps are alike."""
    return data.max_length / (2 + float(data.store.lengths.mean()))


def line_examples(data: Data) -> Iterator[dict[str, Any]]:
    """A text each."""
    special = data.tokenizer.special
    for row in range(len(data.store)):
        ids = [special.bos, *data.store.ids(row).tolist(), special.eos]
        yield {"input_ids": ids, "attention_mask": [1] * len(ids), "special_tokens_mask": [1, *[0] * (len(ids) - 2), 1]}


def grouped_examples(data: Data) -> Iterator[dict[str, Any]]:
    """Texts end to end, cut to rows; what is left at the end is dropped."""
    left: dict[str, list[int]] = {key: [] for key in FEATURES}
    for line in line_examples(data):
        for key, values in left.items():
            values += line[key]
        while len(left["input_ids"]) >= data.max_length:
            yield {key: values[: data.max_length] for key, values in left.items()}
            left = {key: values[data.max_length :] for key, values in left.items()}


def mapped(examples: Callable[[], Iterator[dict[str, Any]]], folder: Path) -> Dataset:
    """The examples in a file in `folder`, with the types that transformers' tokenizers give."""
    disable_progress_bars()
    return Dataset.from_generator(
        examples, Features(FEATURES), cache_dir=str(folder / "examples"), fingerprint="examples"
    )


def assert_alike(data: Data) -> None:
    """Both sides have the same loss on one batch: the head at masked positions gives what the full one does."""
    objective = our_objective(data)
    batches = held_out_batches(data)[:1]
    with torch.inference_mode():
        step = objective.eval()(batches[0])
    ours, peers = float(step.loss_sum) / step.count, peer_loss(peer_model(objective), batches)
    assert abs(ours - peers) < 1e-4 * peers, (ours, peers)


def rates(ours: Train, peer: Train, turns: Turns, rounds: int, num_threads: int) -> tuple[list[float], list[float]]:
    """Useful tokens a second of each turn that counts, of both sides, which take turns."""
    found: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        order = (1, -1)[number % 2]
        pair = _round(*(ours, peer)[::order], turns, num_threads)
        for side, more in zip(found, pair[::order], strict=True):
            side.extend(more)
    return found


def _round(first: Train, second: Train, turns: Turns, num_threads: int) -> list[list[float]]:
    watches, useful = [Stopwatch(None, turns) for _ in range(2)], [[], []]
    watches[0].other, watches[1].other = watches[1], watches[0]

    def side(watch: Stopwatch, tokens: list[int], train: Train) -> None:
        torch.set_num_threads(num_threads)  # each thread has a number of its own

        def look(count: int) -> None:
            watch.look(len(tokens))
            tokens.append(count)

        watch.run(lambda: train(look, turns.num_steps))

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(side, *one) for one in zip(watches, useful, (first, second), strict=True)]
        watches[0].mine.release()
        for one in running:
            one.result()
    found = []
    for watch, tokens in zip(watches, useful, strict=True):
        sums = [
            sum(tokens[start : start + turns.steps])
            for start in range(0, turns.steps * len(watch.seconds), turns.steps)
        ]
        found.append([a / b for a, b in zip(sums, watch.seconds, strict=True)][WARM_UP_TURNS:][: turns.number])
    return found


def peak_mib(data_arguments: dict[str, Any], ours: bool, num_threads: int, num_steps: int) -> float:
    """The peak of a process that does nothing but train, in MiB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_train_and_look, (data_arguments, ours, num_threads, num_steps))


def _train_and_look(data_arguments: dict[str, Any], ours: bool, num_threads: int, num_steps: int) -> float:
    set_num_threads(num_threads)
    data = load_data(**data_arguments)
    (train_ours if ours else partial(train_peer, grouped=True))(data, look=lambda _: None, num_steps=num_steps)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def curve(data: Data, figure: Path, num_steps: int, evaluate_every: int) -> dict[str, float]:
    """Trains both sides and draws the loss on held-out texts over the useful tokens seen."""
    sides = {"fewlabel, packed": train_ours, "transformers, grouped": partial(train_peer, grouped=True)}
    drawn = {}
    for name, train in sides.items():
        tokens: list[int] = []
        found = train(data, look=tokens.append, num_steps=num_steps, evaluate_every=evaluate_every)
        through = np.cumsum(tokens)
        points = [
            (step, loss) for step, loss in zip(found["steps"], found["held_out"], strict=True) if loss is not None
        ]
        drawn[name] = ([int(through[step - 1]) for step, _ in points], [loss for _, loss in points])
        print(f"{name}: {drawn[name]}", flush=True)
    with drawing():
        fig, axes = plt.subplots(figsize=(6, 3.6), layout="constrained", facecolor="white")
        for (name, (x, y)), colour in zip(drawn.items(), (COLOURS["ssl"], COLOURS["ssl2"]), strict=True):
            axes.plot(np.array(x) / 1e6, y, color=colour, label=name)
        axes.set(xlabel="useful tokens seen, millions", ylabel="loss of held-out texts, nats a masked token")
        axes.legend(frameon=False)
        fig.savefig(figure, dpi=160)
    ours, peer = drawn.values()
    shared = min(ours[0][-1], peer[0][-1])
    return {
        f"held_out_loss_{side}": float(np.interp(shared, *points)) for side, points in (("ours", ours), ("peer", peer))
    } | {"tokens_seen": shared}


def main() -> None:
    """Runs all comparisons, or draws the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under two minutes: does it run at all?")
    parser.add_argument("--folder", type=Path, help="keeps corpora and tokenizers; a temporary one by default")
    parser.add_argument("--curve", type=Path, metavar="FIGURE", help="draw the loss curve instead")
    parser.add_argument("--steps", type=int, default=400, help="of the curve")
    parser.add_argument("--rounds", type=int, default=3, help="of new trainings for each comparison")
    parser.add_argument("--threads", type=int, help="all CPUs by default")
    parser.add_argument("--only", nargs="*", help="ratios to measure; all by default")
    options = parser.parse_args()
    num_threads = set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    ratios: dict[str, float] = {}
    values: dict[str, Any] = {"quick": options.quick}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        sizes: dict[str, Any] = {"folder": folder, "pieces": 32000, "max_length": 128, "most": 10**9}
        turns = Turns(3, 4)
        if options.quick:
            sizes |= {"pieces": 6000, "max_length": 64, "most": 4000}
            turns = Turns(1, 2)
        common = sizes | {"num_rows": 8 if options.quick else 32}
        of_32k = common | {"vocab_size": sizes["pieces"]}
        # A step of the peer's holds three arrays of all tokens times all words.
        of_250k = common | {"vocab_size": 8 * sizes["pieces"] if options.quick else 250_000, "num_rows": 8}
        if options.curve:
            data = load_data(**of_32k)
            found = curve(data, options.curve, *((6, 2) if options.quick else (options.steps, options.steps // 20)))
            finish(
                "mlm", {"curve": found["held_out_loss_peer"] / found["held_out_loss_ours"]}, found, threads=num_threads
            )
            return
        wanted = options.only or ["grouped-32k", "lines-32k", "grouped-250k", "memory"]
        for name, arguments, grouped in (
            ("grouped-32k", of_32k, True),
            ("lines-32k", of_32k, False),
            ("grouped-250k", of_250k, True),
        ):
            if name not in wanted:
                continue
            data = load_data(**arguments)
            assert_alike(data)
            rounds = 1 if options.quick else options.rounds
            found = rates(partial(train_ours, data), partial(train_peer, data, grouped), turns, rounds, num_threads)
            ratios[name] = median_ratio(*found)
            each = [a / b for a, b in zip(*found, strict=True)]
            values[f"{name}_quartiles"] = statistics.quantiles(each, n=4)[::2]
            for side, one in zip(("ours", "peer"), found, strict=True):
                values[f"{name}_{side}_tokens_per_s"] = statistics.median(one)
            print(f"{name}: {ratios[name]:.3f}, half of the turns in {values[f'{name}_quartiles']}", flush=True)
        if "memory" in wanted:
            peaks = {side: peak_mib(of_32k, side == "ours", num_threads, 6) for side in ("ours", "peer")}
            values |= {f"memory_{side}_mib": peak for side, peak in peaks.items()}
            ratios["memory"] = peaks["peer"] / peaks["ours"]
    finish("mlm", ratios, values, threads=num_threads)


if __name__ == "__main__":
    main()
