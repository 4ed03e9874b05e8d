"""All that is measured of one encoder without training: held-out text, translations, and senses of words."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from toolkit.console import log
from toolkit.embeddings.held_out import held_out_measurements
from toolkit.embeddings.measurements import COLUMNS
from toolkit.embeddings.retrieval import character_tfidf, translated_groups, translation_accuracy
from toolkit.embeddings.words_in_context import bag_of_context_words, sense_measurements, word_vectors
from toolkit.encoders.text import TextEncoder
from toolkit.text import Corpus

BASELINES = ("raw", "bag", "random", "static", "context")
"""Character TF-IDF, a bag of context words, random weights, and the encoder's own token vectors of word and context."""


@dataclass(frozen=True, eq=False)
class EvaluationTexts:
    """What is measured on.

    Attributes:
        held_out: Texts that pretraining never saw, by the name of their card.
        parallel: Those of them whose groups hold translations.
        words: Ambiguous words in context, by the name of their card.
        pivot: The language from and to which translations are looked for.
        max_texts: Texts that are scored of each card and language.
        seed: Of their choice and of random weights.
    """

    held_out: Mapping[str, Corpus]
    parallel: Mapping[str, Corpus]
    words: Mapping[str, Corpus]
    pivot: str = "en"
    max_texts: int = 200
    seed: int = 0


def parallel_corpora(held_out: Mapping[str, Corpus], pivot: str) -> dict[str, Corpus]:
    """Those with enough translations from or to the pivot."""
    return {site: corpus for site, corpus in held_out.items() if translated_groups(corpus, pivot)}


def measure_baselines(texts: EvaluationTexts) -> pd.DataFrame:
    """Measurements that need no encoder."""
    tables = [
        translation_accuracy(character_tfidf, corpus, site, texts.pivot).assign(method="raw")
        for site, corpus in texts.parallel.items()
    ]
    for site, corpus in texts.words.items():
        bags = bag_of_context_words(corpus.texts, corpus.frame["source"].tolist())
        tables.append(sense_measurements(bags, corpus, site).assign(method="bag"))
    return _joined(tables)


def measure_encoder(encoder: TextEncoder, texts: EvaluationTexts) -> pd.DataFrame:
    """Measurements of an encoder, and of the same network with random weights."""
    return _joined(_of_encoder(encoder, texts))


def _of_encoder(encoder: TextEncoder, texts: EvaluationTexts) -> Iterator[pd.DataFrame]:
    if texts.held_out and encoder.lm_head is None:
        log.info("it has no language-model head: held-out text is left out")
    elif texts.held_out:
        for site, corpus in texts.held_out.items():
            found = held_out_measurements(encoder, corpus, site, texts.max_texts, texts.seed)
            yield found.assign(method="encoder")
    for method, one in (("encoder", encoder), ("random", encoder.untrained(texts.seed))):
        for site, corpus in texts.parallel.items():
            yield translation_accuracy(one.embed, corpus, site, texts.pivot).assign(method=method)
        for site, corpus in texts.words.items():
            vectors = word_vectors(one, corpus.texts, corpus.frame["source"].tolist())
            yield sense_measurements(vectors["contextual"], corpus, site).assign(method=method)
            if method == "encoder":
                for name in ("static", "context"):
                    yield sense_measurements(vectors[name], corpus, site).assign(method=name)


def _joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    nothing = pd.DataFrame(columns=["method", *COLUMNS])
    found = [table for table in tables if len(table)]
    return pd.concat(found, ignore_index=True) if found else nothing
