"""Is a vocabulary whose vectors are mixed of their like (FOCUS) learnt faster than one whose vectors are drawn?

    python -m benchmarks.vocabulary [--quick]

On the CPU. A BERT of 2 layers, 128 wide, started from co-occurrences, is trained by masked modelling on the texts of
the sentiment cards, in a vocabulary of 6,000 pieces. Then it gets one of 16,000, twice: rows that both have are copied
on either side; the others are mixed on one side, and on the other drawn with the mean and deviation of the old rows.
Both go on with the same batches, masks and learning rate. The loss is that of held-out texts, the same masks each time,
in nats a masked token.

Ratios (loss with drawn rows/with mixed ones): `start`, before a step in the new vocabulary; `early` and `late`, after a
quarter of the steps and after all of them.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import finish, refuse_without

os.environ["CUDA_VISIBLE_DEVICES"] = ""

try:
    import numpy as np
    import torch

    from toolkit.encoders.text import TextEncoder, TextEncoderConfig, replace_vocabulary
    from toolkit.objectives import build_objective
    from toolkit.objectives.mlm import MLMConfig
    from toolkit.text import MaskingConfig, SpectralConfig, TokenizerConfig, spectral_embeddings, train_tokenizer
    from toolkit.text.masking import WordBoundaries, mask_tokens
    from toolkit.text.sources import open_source
    from toolkit.training import set_num_threads
except ModuleNotFoundError as missing:
    refuse_without(missing)

CARDS = ("sentiment_en", "sentiment_zh", "sentiment_id", "sentiment_sl")
OLD, NEW = 6000, 16000
BATCH, MAX_LENGTH, LR = 64, 48, 1e-3
HELD_OUT = 512

Batch = dict[str, torch.Tensor]


class Masked:
    """Batches of texts, masked; each a pure function of its number."""

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], seed: int) -> None:
        self.encoder, self.texts, self.seed = encoder, texts, seed
        self.boundaries = WordBoundaries.of(encoder.tokenizer)

    def batch(self, number: int, rows: np.ndarray | None = None) -> Batch:
        """Texts drawn at random, or those of `rows`."""
        rng = np.random.default_rng([self.seed, number])
        rows = rng.choice(len(self.texts), BATCH, replace=False) if rows is None else rows
        batch = self.encoder.collate([self.texts[row] for row in rows])
        ids, positions, targets = mask_tokens(batch["input_ids"].numpy(), self.boundaries, MaskingConfig(), rng)
        arrays = {"input_ids": ids, "positions": positions, "targets": targets}
        return batch | {name: torch.from_numpy(array) for name, array in arrays.items()}


def train(
    encoder: TextEncoder, texts: Sequence[str], held_out: Sequence[str], steps: int, looks: Sequence[int]
) -> list[float]:
    """Masked modelling in place.

    Args:
        encoder: Trained in place, its head too.
        texts: To learn from.
        held_out: To look at.
        steps: How many.
        looks: After how many of them the held-out loss is taken.
    """
    objective = build_objective(MLMConfig(), encoder, seed=0).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=LR, weight_decay=0.01)
    training, found = Masked(encoder, texts, seed=1), []
    for number in range(steps + 1):
        if number in looks:
            found.append(held_out_loss(encoder, objective, held_out))
        if number < steps:
            torch.manual_seed(number)  # of dropout
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1, (number + 1) / 20)
            step = objective(training.batch(number))
            (step.loss_sum / int(step.count)).backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return found


@torch.no_grad()
def held_out_loss(encoder: TextEncoder, objective: torch.nn.Module, texts: Sequence[str]) -> float:
    """Nats a masked token."""
    batches, total, count = Masked(encoder, texts, seed=2), 0.0, 0
    objective.eval()
    for number, rows in enumerate(_parts(len(texts))):
        step = objective(batches.batch(number, rows))
        total, count = total + float(step.loss_sum), count + int(step.count)
    objective.train()
    return total / count


def _parts(num: int) -> Iterator[np.ndarray]:
    for start in range(0, num, BATCH):
        yield np.arange(start, min(start + BATCH, num))


def run(quick: bool) -> None:
    """Trains, replaces, trains on, and says how."""
    rows = [row for card in CARDS for row in open_source(card)]
    order = np.random.default_rng([0]).permutation(len(rows))
    held_out = [rows[index] for index in order[:HELD_OUT]]
    corpus = [rows[index] for index in order[HELD_OUT : 6000 if quick else None]]
    texts = [row.text for row in corpus]
    before, after = (60, 16) if quick else (1200, 200)
    with tempfile.TemporaryDirectory() as folder:
        old, new = (
            train_tokenizer(
                ((row.text, row.language) for row in corpus),
                TokenizerConfig(vocab_size=size, lowercase=True, num_generated=0),
                Path(folder) / str(size),
            )
            for size in (OLD, NEW)
        )
    size = TextEncoderConfig(num_layers=2, hidden_size=128, num_heads=4, max_length=MAX_LENGTH)
    languages = [row.language for row in corpus]
    spectral = spectral_embeddings(old.encode(texts), languages, len(old), SpectralConfig(dim=128), seed=0)
    encoder = TextEncoder.from_scratch(size, old, spectral=spectral)
    (trained,) = train(encoder, texts, [row.text for row in held_out], before, [before])
    ids, looks, values, losses = new.encode(texts), [0, after // 4, after], {}, {}
    for method in ("focus", "random"):
        replaced, report = replace_vocabulary(copy.deepcopy(encoder), new, ids, languages, method=method)
        print(f"{method}: {report}")
        losses[method] = train(replaced, texts, [row.text for row in held_out], after, looks)
        values |= {f"loss_{method}_{step}": loss for step, loss in zip(looks, losses[method], strict=True)}
    names = ("start", "early", "late")
    ratios = {name: drawn / mixed for name, drawn, mixed in zip(names, losses["random"], losses["focus"], strict=True)}
    finish("vocabulary", ratios, {"loss_old_vocabulary": trained, **values}, threads=torch.get_num_threads())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts and steps")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_num_threads(arguments.threads)
    run(arguments.quick)
