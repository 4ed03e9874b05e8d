"""The texts of several data cards, divided once into what may be trained on and what is only tested on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.cards import DataCard, Split, data_digest, fetch
from toolkit.console import log, track
from toolkit.errors import DataError
from toolkit.near_duplicates import UNKNOWN, Repeat, RepeatFinder
from toolkit.splits import holdout, stratified_split
from toolkit.text.corpus import Corpus, concatenate
from toolkit.text.readers import read_corpus

FORMAT = 5
"""Of what caches of texts hold, this one and those of a pretraining: raised whenever reading, deduplication or division
change what they give."""


@dataclass(frozen=True, eq=False)
class DividedCorpora:
    """Training and test texts by the name of their card.

    Attributes:
        train: What may be trained on: no group of a test, and no near-duplicate of a test text from any card.
        test: Held-out texts, balanced by class where they have classes; only cards that hold some out have an entry.
    """

    train: dict[str, Corpus]
    test: dict[str, Corpus]

    @property
    def all_train(self) -> Corpus:
        """Every text that may be trained on; labels are taken off, they mean another thing in each card."""
        parts = [Corpus(corpus.frame.assign(label=-1), (), corpus.counts) for corpus in self.train.values()]
        return concatenate(parts).renumbered()

    def train_texts(self, language: str) -> list[str]:
        """The training texts of one language, of all cards."""
        return [text for corpus in self.train.values() for text in corpus.frame.text[corpus.languages == language]]


def divide_corpora(cards: Sequence[DataCard], seed: int, cache: Path) -> DividedCorpora:
    """Fetches, reads, deduplicates and divides the texts of `cards` by their own split rules.

    Args:
        cards: Data cards of texts.
        seed: Of the division; the same cards and seed always give the same one.
        cache: A folder that keeps the result, so that it is read once; only its owner may look into it. Data of a
            `path` source are read anew when a byte of them changes.

    Raises:
        DataError: A corpus is empty.
    """
    parts = [(card.name, data_digest(card)) for card in cards]
    folder = cache / hashlib.sha256(repr([FORMAT, parts, seed]).encode()).hexdigest()[:16]
    if not (folder / "counts.json").is_file():
        train, test = {}, {}
        for card in track(cards, "reading corpora"):
            corpus = read_corpus(card, fetch(card))
            log.info("%s: %s", card.name, ", ".join(f"{count:,} {what}" for what, count in corpus.counts.items()))
            train[card.name], held_out = hold_out(corpus, card.split, seed)
            if held_out is not None:
                test[card.name] = held_out
        train = {name: _without_tests(corpus, name, test) for name, corpus in train.items()}
        _write(DividedCorpora(train, test), folder)
    return _read(folder)


def hold_out(corpus: Corpus, split: Split, seed: int) -> tuple[Corpus, Corpus | None]:
    """Divides a corpus into training texts and a test: balanced by class, or of whole groups where nothing has a label.

    Args:
        corpus: Deduplicated texts.
        split: The card's rule: the share held out, the columns whose proportions the test keeps.
        seed: Of the draw.

    Returns:
        Both, no group in both; no test where the card holds nothing out.
    """
    if split.test_share is None:
        return corpus, None
    columns = [column for column in split.stratify if column != "label"]  # the test is balanced by label anyway
    if (corpus.labels >= 0).any():
        strata = list(corpus.frame[columns].itertuples(index=False, name=None)) if columns else None
        train, test = holdout(corpus.labels, corpus.groups, strata, share=split.test_share, seed=seed)
    else:  # a message with all its translations is one group
        strata = [corpus.frame[column].tolist() for column in columns]
        train, test = stratified_split(corpus.groups, strata, share=split.test_share, seed=seed)
    return corpus.take(train), corpus.take(test)


def _without_tests(corpus: Corpus, name: str, test: dict[str, Corpus]) -> Corpus:
    """Takes out near-duplicates of test texts. A card's own were dropped on reading, but for those of catalogues, which
    repeat on purpose. Cards that have no language in common are not compared, unless one does not know its own."""
    finder, languages = RepeatFinder(), set(corpus.languages)
    for other, held_out in test.items():
        theirs = set(held_out.languages)
        if (other != name or not held_out.class_names) and (theirs & languages or UNKNOWN in theirs | languages):
            finder.hold_out(held_out.texts)
    for text, language in zip(corpus.texts, corpus.languages, strict=True):
        finder.add(text, language)
    return corpus.take(finder.reasons() != Repeat.HELD_OUT)


def _write(divided: DividedCorpora, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the texts may be private
    facts = {}
    for part, corpora in (("train", divided.train), ("test", divided.test)):
        for name, corpus in corpora.items():
            corpus.frame.to_parquet(folder / f"{part}-{name}.parquet")
            facts[f"{part}-{name}"] = {"counts": corpus.counts, "class_names": corpus.class_names}
    # Written last: its presence says that all else is there.
    temporary = folder / "counts.json.partial"
    temporary.write_text(json.dumps(facts, indent=2, default=_plain), encoding="utf-8")
    temporary.replace(folder / "counts.json")


def _read(folder: Path) -> DividedCorpora:
    try:
        facts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        corpora = {
            name: Corpus(pd.read_parquet(folder / f"{name}.parquet"), tuple(fact["class_names"]), fact["counts"])
            for name, fact in facts.items()
        }
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: damaged ({' '.join(str(error).split())}); delete it and run again") from None
    parts = {"train": {}, "test": {}}
    for name, corpus in corpora.items():
        part, _, card = name.partition("-")
        parts[part][card] = corpus
    return DividedCorpora(**parts)


def _plain(value: object) -> object:
    if isinstance(value, np.integer):
        return int(value)
    raise TypeError(f"{type(value)} is not JSON")
