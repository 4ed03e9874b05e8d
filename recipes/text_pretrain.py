"""Pretrain a multilingual text encoder on unlabelled texts.

    fewlabel run text_pretrain --config configs/text_pretrain/sentiment.yaml

Texts are deduplicated and divided as their data cards say; the tokenizer is trained here and certified; token vectors
start from the corpus's own co-occurrences; masked modelling goes on from there. The run folder gets `encoder/`, which
`transformers.AutoModel`, `AutoTokenizer` and `toolkit.load_encoder` open.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from toolkit.cards import data_digest, load_card, write_model_card
from toolkit.config import RunConfig, Section, digest, main
from toolkit.console import log
from toolkit.encoders import save_encoder
from toolkit.encoders.text import PoolingConfig, TextEncoder, TextEncoderConfig
from toolkit.errors import CheckpointError
from toolkit.finetune import OnlineProbe, text_tasks
from toolkit.objectives import build_objective, config_union
from toolkit.objectives.mlm import MLMConfig
from toolkit.text import (
    MaskedBatches,
    MaskingConfig,
    SpectralConfig,
    TokenizerConfig,
    TokenStore,
    divide_corpora,
    inverse_document_frequency,
    load_tokenizer,
    spectral_embeddings,
    train_tokenizer,
)
from toolkit.training import (
    RunFolder,
    TrainingConfig,
    fit,
    is_main_process,
    main_process_first,
    preflight,
    set_num_threads,
)


class Stage(Section):
    """One method, and how long."""

    objective: config_union("text") = MLMConfig()  # type: ignore[valid-type]
    training: TrainingConfig = TrainingConfig()


class Pretraining(Section):
    """What to learn from, and how."""

    cards: tuple[str, ...]
    """Data cards of the texts; what a card holds out is left out here."""
    languages: tuple[str, ...] = ()
    """Only texts in these languages; all when empty."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    spectral: SpectralConfig = SpectralConfig()
    encoder: TextEncoderConfig = TextEncoderConfig()
    variants: dict[str, PoolingConfig] = Field({"last": PoolingConfig()}, min_length=1)
    """Ways to pool token vectors; the first is the encoder's own, a probe may choose among them by cross-validation."""
    masking: MaskingConfig = MaskingConfig()
    balance_temperature: float = 2.0
    """Languages are drawn in proportion to their number of texts to the power of one over this; 1 as they are."""
    stages: dict[str, Stage] = Field({"mlm": Stage()}, min_length=1)
    """Methods that follow each other, under names of your own: masked modelling, then a contrastive pass."""

    @property
    def method(self) -> str:
        """What the tables call it: the start from co-occurrences is a part of it."""
        return "+".join(["spectral", *(stage.objective.name for stage in self.stages.values())])


class Config(Pretraining, RunConfig):
    """The recipe's configuration."""


@dataclass(frozen=True)
class Result:
    """The encoder, and the metrics.jsonl of each stage."""

    encoder: TextEncoder
    metrics: dict[str, Path]


def run(config: Config, *, report: object = None) -> Result:
    """Trains, or goes on training, and saves the encoder."""
    started = time.monotonic()
    set_num_threads(config.num_threads)
    for stage in config.stages.values():
        preflight(stage.training, config.trackers)
    cards = [load_card(name) for name in config.cards]
    folder = RunFolder(config.output, config, data={card.name: data_digest(card) for card in cards})
    with main_process_first():
        corpora = divide_corpora(cards, config.seed, folder.path / "corpora")
        corpus = corpora.all_train.of_languages(config.languages)
        folder.begin()
        # A plan may have tried other values in this folder.
        trained = (
            folder.path / "tokenizer" / digest(config, {*RunConfig.of_this_start, "stages", "encoder", "variants"})
        )
        try:
            tokenizer = load_tokenizer(trained)
        except CheckpointError:
            log.info("training a tokenizer on %d texts and certifying it: a minute or two for 50,000", len(corpus))
            tokenizer = train_tokenizer(corpus.texts, config.tokenizer, trained)
    log.info("counting which pieces occur together in %d texts", len(corpus))
    ids = tokenizer.encode(corpus.texts)
    encoder = TextEncoder.from_scratch(
        config.encoder,
        tokenizer,
        variants=config.variants,
        token_weights=inverse_document_frequency(ids, len(tokenizer)),
        spectral=spectral_embeddings(ids, corpus.languages, len(tokenizer), config.spectral, config.seed),
        seed=config.seed,
    )
    store = TokenStore.build(corpus.texts, corpus.languages, tokenizer, config.encoder.max_length)
    metrics, probe = {}, None
    if any(stage.training.evaluate_every for stage in config.stages.values()):
        probe = OnlineProbe(encoder, text_tasks(corpora, "online", seed=config.seed), seed=config.seed)
    for number, (name, stage) in enumerate(config.stages.items()):
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])  # no stage repeats another's
        batches = MaskedBatches(
            store,
            tokenizer,
            config.masking,
            batch_size=stage.training.batch_size,
            seed=seed,
            temperature=config.balance_temperature,
        )
        own = RunFolder(folder.path / "stages" / name, config) if metrics else folder
        metrics[name] = own.metrics_path
        objective = build_objective(stage.objective, encoder, seed=seed)
        fit(objective, batches, stage.training, own, seed, name, evaluate=probe)
        encoder.requires_grad_(True)  # a method may have frozen a part of it

    result = Result(encoder, metrics)
    if config.plan or not is_main_process():
        return result
    save_encoder(encoder, folder.path / "encoder", corpus.groups)
    write_model_card(
        folder.path,
        title="A multilingual text encoder",
        summary=f"{config.encoder.num_layers} layers of width {config.encoder.hidden_size}, {config.method}, "
        f"from {len(corpus):,} texts in {len(np.unique(corpus.languages))} languages.",
        library="transformers",
        usage='embeddings = encoder.embed(["a text", "ein Text"])  # float32 (N, encoder.embed_dim)',
        cards=cards,
        config=config,
    )
    folder.log_timing("text pretraining", time.monotonic() - started)
    log.info("the encoder: %s", folder.path / "encoder")
    return result


if __name__ == "__main__":
    main(run, Config)
