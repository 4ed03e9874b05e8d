"""Each text method lowers its own loss on held-out texts of the demo's data cards.

    pytest -m slow -s tests/objectives/test_learning.py

shows by how much.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from toolkit.cards import load_card
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.objectives import OBJECTIVES, Objective, build_objective
from toolkit.text import MaskedBatches, MaskingConfig, TokenizerConfig, TokenStore, divide_corpora, train_tokenizer
from toolkit.text.corpus import Corpus
from toolkit.text.pairs import PairBatches, SegmentPairs, TranslationPairs, translations
from toolkit.text.tokenizer import TextTokenizer
from toolkit.training import RunFolder, TrainingConfig, fit

CARDS = {
    "texts": ("sentiment_en", "sentiment_zh", "sentiment_id", "sentiment_sl"),
    "messages": ("messages_django",),
}
LANGUAGES = ("de", "en", "id", "sl", "zh")
MAX_LENGTH, BATCH_SIZE, NUM_STEPS, NUM_HELD_OUT = 96, 32, 120, 12

# What a method's default is not meant for: the embeddings here are random, and there are pairs to look at.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in OBJECTIVES if OBJECTIVES.get(name).modality == "text"},
    "halves": ("halves", {"freeze_embeddings": False}),
    "simcse, translations": ("simcse", {"positives": "translations"}),
}


class Demo(NamedTuple):
    """Texts that are trained on, and those that the cards hold out."""

    tokenizer: TextTokenizer
    train: dict[str, Corpus]
    test: dict[str, Corpus]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder, train, test = tmp_path_factory.mktemp("demo"), {}, {}
    for kind, names in CARDS.items():
        divided = divide_corpora([load_card(name) for name in names], 0, folder / "corpora")
        for into, corpora in ((train, divided.train), (test, divided.test)):
            frame = pd.concat([corpus.frame for corpus in corpora.values()])
            into[kind] = Corpus(frame[frame["language"].isin(LANGUAGES)].reset_index(drop=True))
    texts = train["texts"].texts[::5] + train["messages"].texts
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=8000, lowercase=True), folder / "tokenizer")
    return Demo(tokenizer, train, test)


def batches(objective: Objective, demo: Demo, corpora: dict[str, Corpus], seed: int) -> MaskedBatches | PairBatches:
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "seed": seed}
    if objective.pairing == "translation":
        pairs = TranslationPairs.build(translations(corpora["messages"], "en"), demo.tokenizer, MAX_LENGTH)
        return PairBatches(pairs, demo.tokenizer, MaskingConfig(), pairing=objective.pairing, **settings)
    texts = corpora["texts"]
    store = TokenStore.build(texts.texts, texts.languages, demo.tokenizer, MAX_LENGTH)
    if objective.pairing:
        segments = SegmentPairs(store, demo.tokenizer, objective.pairing, MAX_LENGTH)
        return PairBatches(segments, demo.tokenizer, MaskingConfig(), pairing=objective.pairing, **settings)
    return MaskedBatches(store, demo.tokenizer, MaskingConfig(), **settings)


@torch.no_grad()
def held_out(objective: Objective, of: MaskedBatches | PairBatches) -> tuple[float, dict[str, float]]:
    """The mean loss of the same batches each time, and means of what the method logs; dropout where it is the task."""
    objective.train(objective.pairing is None and hasattr(objective, "embed"))
    torch.manual_seed(0)
    steps = [objective(of.batch(number)) for number in range(NUM_HELD_OUT)]
    logs = {name: float(np.mean([float(step.logs[name]) for step in steps])) for name in steps[0].logs}
    return float(sum(step.loss_sum for step in steps)) / int(sum(step.count for step in steps)), logs


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_its_own_loss_on_held_out_texts_falls(case: str, demo: Demo, tmp_path: Path) -> None:
    name, settings = CASES[case]
    config = TextEncoderConfig(num_layers=2, hidden_size=128, num_heads=4, max_length=MAX_LENGTH)
    encoder = TextEncoder.from_scratch(config, demo.tokenizer, seed=0)
    objective = build_objective(OBJECTIVES.get(name).Config(**settings), encoder, seed=0)
    tests = batches(objective, demo, demo.test, seed=1)
    before, _ = held_out(objective, tests)
    training = TrainingConfig(num_steps=NUM_STEPS, batch_size=BATCH_SIZE, lr=1e-3, on_collapse="warn")
    fit(objective, batches(objective, demo, demo.train, seed=0), training, RunFolder(tmp_path, training), 0, name)
    after, logs = held_out(objective, tests)
    print(f"\n| {case} | {before:.3f} | {after:.3f} | {', '.join(f'{key} {v:.3f}' for key, v in logs.items())} |")
    assert after < 0.97 * before
