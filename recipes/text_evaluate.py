"""What do text encoders know? Held-out text, translations, senses of words and a probe, beside baselines.

    fewlabel run text_evaluate --config configs/text_evaluate/sentiment.yaml

Takes encoders of `text_pretrain` and any that transformers opens, by folder or hub name. Texts are what the data cards
hold out; an encoder of fewlabel that saw one of them is refused. Prints tables, and writes evaluation.csv (values,
intervals, paired differences with the best baseline), evaluation.md, results.csv and report.html. What is measured is
kept: cut off, or with one encoder more, it goes on where it was.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from toolkit.cards import data_digest, fetch, load_card, without_folders
from toolkit.config import RunConfig, main, to_yaml
from toolkit.console import log
from toolkit.embeddings import (
    BASELINES,
    Candidate,
    EvaluationTexts,
    measure_baselines,
    measure_encoder,
    parallel_corpora,
    remembered,
    summarise,
)
from toolkit.encoders import encoder_digest
from toolkit.encoders.text import TextEncoder
from toolkit.errors import ConfigError, DataError
from toolkit.files import write_atomically
from toolkit.finetune import FrozenEncoder, StudyConfig, Task, run_study, text_tasks
from toolkit.finetune.baselines import Raw
from toolkit.finetune.evaluation import probe_evaluation
from toolkit.finetune.jobs import workers
from toolkit.finetune.results import COLUMNS
from toolkit.reports import CardFacts, Evaluation, evaluation_markdown, read_timings, write_evaluation
from toolkit.text import Corpus, divide_corpora, read_corpus
from toolkit.training import RunFolder, refuse_several_processes, set_num_threads

FORMAT = 1
"""Of what is kept: raised whenever the same encoder and texts would give other measurements."""
DECISIVE = {"seed", "languages", "parts", "max_texts", "pivot"}
"""What measurements depend on besides encoder and data."""


class Config(RunConfig):
    """The recipe's configuration."""

    encoders: dict[str, Candidate] = Field(min_length=1)
    """By the names that the tables give them."""
    cards: tuple[str, ...] = ()
    """Data cards of texts, with the seed of the pretraining, so that the same part is held out."""
    words: str | None = "words_in_context"
    """Data card of ambiguous words in context: the label is the sense, the source the word."""
    languages: tuple[str, ...] = ()
    """Only texts in these languages; all when empty."""
    parts: tuple[Literal["held_out", "translations", "words", "probe"], ...] = (
        "held_out", "translations", "words", "probe"
    )  # fmt: skip
    """What is measured."""
    max_texts: int = Field(200, ge=1)
    """Held-out texts that are scored, of each card and language."""
    pivot: str = "en"
    """The language from and to which translations are looked for."""
    task: str = "classification"
    """What the probe tells apart, for the column `task`."""
    study: StudyConfig = StudyConfig(budgets=(8, 32))
    """Labels and draws of the probe."""
    allow_seen: bool = False
    """Test on texts that pretraining saw, to study the leak itself."""

    @field_validator("encoders")
    @classmethod
    def _none_is_taken(cls, encoders: dict[str, Candidate]) -> dict[str, Candidate]:
        if "none" in encoders:
            raise ValueError("none is what the tables call baselines without an encoder; give it another name")
        return encoders


def run(config: Config, *, report: object = None) -> RunFolder:
    """Measures what is missing, and writes the tables and the page."""
    started = time.monotonic()
    if config.plan:
        raise ConfigError("plan: an evaluation trains nothing that could be planned; plan the pretraining")
    refuse_several_processes("text_evaluate")
    num_threads = set_num_threads(config.num_threads)
    encoders = {name: candidate.open() for name, candidate in config.encoders.items()}
    cards = [load_card(name) for name in config.cards]
    word_cards = [load_card(config.words)] if config.words and "words" in config.parts else []
    data = {card.name: data_digest(card) for card in [*cards, *word_cards]}
    folder = RunFolder(config.output, config, ignore=("encoders",), data=data)
    corpora = divide_corpora(cards, config.seed, folder.path / "corpora")
    groups = [group for test in corpora.test.values() for group in test.groups]
    for candidate in config.encoders.values():
        candidate.refuse_seen(groups, allow=config.allow_seen)
    folder.begin()
    held_out = in_languages(corpora.test, {*config.languages, config.pivot} if config.languages else set())
    texts = EvaluationTexts(
        in_languages(held_out, set(config.languages)) if "held_out" in config.parts else {},
        parallel_corpora(held_out, config.pivot) if "translations" in config.parts else {},
        in_languages({card.name: read_corpus(card, fetch(card)) for card in word_cards}, set(config.languages)),
        pivot=config.pivot,
        max_texts=config.max_texts,
        seed=config.seed,
    )
    measure: dict[str, Callable[[], pd.DataFrame]] = {"none": partial(measure_baselines, texts)}
    measure |= {name: partial(measure_encoder, encoder, texts) for name, encoder in encoders.items()}
    measured = {}
    for name, make in measure.items():
        log.info("measuring %s", "the baselines" if name == "none" else name)
        weights = "" if name == "none" else encoder_digest(config.encoders[name].folder())
        what = [FORMAT, weights, data, config.model_dump_json(include=DECISIVE)]
        kept = folder.path / "measured" / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.parquet"
        measured[name] = remembered(kept, make)
    summary = summarise(measured, BASELINES)
    results = summary.assign(leg="text").reindex(columns=COLUMNS)
    tasks = text_tasks(corpora, config.task, seed=config.seed) if "probe" in config.parts else []
    tasks = [task for task in tasks if not config.languages or task.language in config.languages]
    if tasks:
        probes = probe(config, encoders, tasks, folder.path / "probe", num_threads)
        results = pd.concat([results, probes], ignore_index=True)
        summary = pd.concat([summary, probe_evaluation(probes)], ignore_index=True)
    if summary.empty:
        raise DataError("nothing to measure: no card holds texts out in these languages, and none has words in context")
    for name, table in (("evaluation.csv", summary), ("results.csv", results)):
        write_atomically(folder.path / name, table.to_csv(index=False, lineterminator="\n").encode())
    markdown = evaluation_markdown(summary)
    write_atomically(folder.path / "evaluation.md", markdown.encode())
    folder.log_timing("evaluation", time.monotonic() - started)
    page = Evaluation(
        "What text encoders know",
        summary,
        cards=[CardFacts(card.pretty_name, ", ".join(card.license), card.name) for card in cards + word_cards],
        config=to_yaml(without_folders(config)),
        provenance=folder.provenance,
        durations=read_timings([folder.path]),
    )
    write_evaluation(folder.path / "report.html", page)
    print(markdown)
    log.info("the page: %s", folder.path / "report.html")
    return folder


def in_languages(corpora: Mapping[str, Corpus], languages: set[str]) -> dict[str, Corpus]:
    """Texts in these languages; without those that have none."""
    kept = {name: c.take(np.isin(c.languages, sorted(languages)) | (not languages)) for name, c in corpora.items()}
    return {name: corpus for name, corpus in kept.items() if len(corpus)}


def probe(
    config: Config, encoders: Mapping[str, TextEncoder], tasks: list[Task], folder: Path, num_threads: int
) -> pd.DataFrame:
    """Probes of each encoder, of its random weights and of TF-IDF on the same draws of labels."""
    methods = [FrozenEncoder(encoder, name) for name, encoder in encoders.items()]
    methods += [FrozenEncoder(one.untrained(config.seed), name, "random") for name, one in encoders.items()]
    with workers(num_threads) as executor:
        return run_study(tasks, [*methods, Raw()], config.study, folder, executor)


if __name__ == "__main__":
    main(run, Config)
