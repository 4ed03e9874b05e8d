"""Pretrain a multilingual text encoder on unlabelled texts.

    fewlabel run text_pretrain --config configs/text_pretrain/sentiment.yaml

Texts are deduplicated and divided as their data cards say; the tokenizer is trained here and certified; texts become
token ids once. Token vectors start from the corpus's own co-occurrences, or all weights from a checkpoint; the stages
go on from there. The run folder gets `encoder/`, which `transformers.AutoModel`, `AutoTokenizer` and
`toolkit.load_encoder` open.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from toolkit.balance import BalanceConfig
from toolkit.cards import write_model_card
from toolkit.config import RunConfig, Section, digest, main
from toolkit.console import log
from toolkit.encoders import save_encoder
from toolkit.encoders.text import PoolingConfig, Started, StartFrom, TextEncoder, TextEncoderConfig, start_from
from toolkit.finetune import OnlineProbe, text_tasks
from toolkit.objectives import build_objective, config_union
from toolkit.objectives.mlm import MLMConfig
from toolkit.text import (
    MaskingConfig,
    PretrainingTexts,
    SpectralConfig,
    TokenizerConfig,
    TokenStore,
    batches_for,
    find_tokenizer,
    inverse_document_frequency,
    load_tokenizer,
    spectral_embeddings,
    write_masked_shares,
)
from toolkit.text.tokenizer import TextTokenizer
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
    masking: MaskingConfig | None = None
    """Masks of this stage, in place of those for all."""


class Pretraining(PretrainingTexts):
    """What to learn from, and how."""

    start_from: StartFrom | None = None
    """A trained checkpoint to go on from; the section `encoder` then sets `max_length` and `attn_implementation`."""
    allow_held_out: bool = False
    """Only warn where that checkpoint saw a text that a card holds out, or has no record of what it saw."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokenizer_from: Path | None = None
    """A certified tokenizer's folder, such as `fewlabel run text_tokenizer` writes, in place of learning one."""
    spectral: SpectralConfig = SpectralConfig()
    encoder: TextEncoderConfig = TextEncoderConfig()
    variants: dict[str, PoolingConfig] = Field({"last": PoolingConfig()}, min_length=1)
    """Ways to pool token vectors; the first is the encoder's own, a probe may choose among them by cross-validation."""
    masking: MaskingConfig = MaskingConfig()
    balance: BalanceConfig = BalanceConfig()
    packed: bool = True
    """Whether a row holds several texts, `encoder.max_length` tokens in all, where the method allows it; a row is then
    a sample of `training.batch_size`. Otherwise a text is, and those of like length make a batch."""
    stages: dict[str, Stage] = Field({"mlm": Stage()}, min_length=1)
    """Methods that follow each other, under names of your own: masked modelling, then a contrastive pass."""
    tokens: Path | None = None
    """Where token ids are kept, for all runs on these texts. Default: `tokens` in the run's folder."""

    @property
    def method(self) -> str:
        """What the tables call it: the start is a part of it."""
        start = "continued" if self.start_from else "spectral"
        return "+".join([start, *(stage.objective.name for stage in self.stages.values())])

    @model_validator(mode="after")
    def _checkpoint_settles_sizes(self) -> Self:
        if self.start_from:
            self.start_from.refuse(self.encoder)
            if self.tokenizer_from and self.start_from.vocabulary != "replace":
                raise ValueError("tokenizer_from: needs start_from.vocabulary: replace")
        return self


class Config(Pretraining, RunConfig):
    """The recipe's configuration."""


@dataclass(frozen=True)
class Result:
    """The encoder, and the metrics.jsonl of each stage."""

    encoder: TextEncoder
    metrics: dict[str, Path]


def run(config: Config, *, report: object = None) -> Result:
    """Trains, or goes on training, and saves the encoder."""
    began = time.monotonic()
    set_num_threads(config.num_threads)
    for stage in config.stages.values():
        preflight(stage.training, config.trackers)
    given = load_tokenizer(config.tokenizer_from) if config.tokenizer_from else None
    before = {"start_from": config.start_from.digest()} if config.start_from else {}
    before |= {"tokenizer": given.digest} if given else {}
    folder = RunFolder(config.output, config, data=config.digests() | before)
    with main_process_first():
        texts = config.open(config.seed, folder.path / "corpora")
        started = start_from(config.start_from) if config.start_from else None
        if started:
            held_out = (group for test in texts.corpora.test.values() for group in test.groups)
            started.refuse_seen(held_out, allow=config.allow_held_out)
        folder.begin()
        # A plan may have tried other values in this folder.
        named = digest(config, {*RunConfig.of_this_start, "stages", "encoder", "variants"})
        tokenizer = given or find_tokenizer(
            texts,
            config.tokenizer,
            folder.path / "tokenizer" / named,
            seed=config.seed,
            before=started and started.encoder.tokenizer,
            vocabulary=config.start_from.vocabulary if config.start_from else "replace",
        )
        tokens = config.tokens or folder.path / "tokens"
        store = TokenStore.write(texts, tokenizer, tokens / f"{texts.digest}-{tokenizer.digest}")
    encoder = build_encoder(config, store, tokenizer, started)
    store = store.cut(encoder.max_length)
    metrics, probe = {}, None
    if any(stage.training.evaluate_every for stage in config.stages.values()):
        probe = OnlineProbe(encoder, text_tasks(texts.corpora, "online", seed=config.seed), seed=config.seed)
    for number, (name, stage) in enumerate(config.stages.items()):
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])  # no stage repeats another's
        objective = build_objective(stage.objective, encoder, seed=seed)
        batches, training = batches_for(
            texts,
            store,
            tokenizer,
            stage.training,
            pairing=objective.pairing,
            packed=config.packed and objective.packs,
            masking=stage.masking or config.masking,
            balance=config.balance,
            seed=seed,
        )
        own = RunFolder(folder.path / "stages" / name, config) if metrics else folder
        metrics[name] = own.metrics_path
        fit(objective, batches, training, own, seed, name, evaluate=probe)
        if objective.masks and is_main_process() and not config.plan:
            write_masked_shares(batches, training.num_steps, own.path / "masked_shares.csv")
        encoder.requires_grad_(True)  # a method may have frozen a part of it

    result = Result(encoder, metrics)
    if config.plan or not is_main_process():
        return result
    save_encoder(encoder, folder.path / "encoder", texts.groups, started)
    write_model_card(
        folder.path,
        title="A multilingual text encoder",
        summary=f"{encoder.model.config.num_hidden_layers} layers of width {encoder.hidden_size}, {config.method}, "
        f"from {len(store):,} texts in {len(store.language_names)} languages.",
        library="transformers",
        usage='embeddings = encoder.embed(["a text", "ein Text"])  # float32 (N, encoder.embed_dim)',
        cards=texts.cards,
        config=config,
    )
    folder.log_timing("text pretraining", time.monotonic() - began)
    log.info("the encoder: %s", folder.path / "encoder")
    return result


def build_encoder(config: Config, store: TokenStore, tokenizer: TextTokenizer, started: Started | None) -> TextEncoder:
    """From counts, or from the checkpoint."""
    log.info("counting which pieces occur together")
    ids, languages = store.sample(config.spectral.max_texts, config.seed)
    own = {
        "variants": config.variants,
        "token_weights": inverse_document_frequency(ids, len(tokenizer)),
        "spectral": spectral_embeddings(ids, languages, len(tokenizer), config.spectral, config.seed),
        "seed": config.seed,
    }
    if started is None:
        return TextEncoder.from_scratch(config.encoder, tokenizer, **own)
    return started.adapted(tokenizer, ids, languages, config.encoder, **own)[0]


if __name__ == "__main__":
    main(run, Config)
