"""The texts that a pretraining learns from: those of data cards, without what they hold out, and your own."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, compress
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from toolkit.balance import BalanceConfig, shares_at
from toolkit.cards import DataCard, data_digest, load_card
from toolkit.config import Section
from toolkit.console import log, track
from toolkit.errors import CheckpointError, DataError
from toolkit.near_duplicates import Repeat, RepeatFinder
from toolkit.registry import nearest
from toolkit.text.batches import MaskedBatches
from toolkit.text.corpus import Corpus, text_digest
from toolkit.text.divided import FORMAT, DividedCorpora, divide_corpora
from toolkit.text.masking import MaskingConfig, masked_shares
from toolkit.text.pairs import PairBatches, Pairing, SegmentPairs, TranslationPairs, translations
from toolkit.text.sampler import PackedSampler, TextSampler
from toolkit.text.sources import AnyTextSource, Row, RowStream, open_source, source_digest
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TextTokenizer, TokenizerConfig, load_tokenizer, train_tokenizer
from toolkit.text.tokenizer.extension import extend_tokenizer
from toolkit.training.budget import count_steps
from toolkit.training.config import TrainingConfig

LOOKED_AT = 50
"""Steps of a stage whose masks are counted."""
OFTEN = 100
"""Times that each text of a language is seen in a stage, above which it is warned of."""


class PretrainingTexts(Section):
    """What to learn from."""

    cards: tuple[str, ...] = ()
    """Data cards of texts; what a card holds out is left out here."""
    texts: tuple[AnyTextSource, ...] = ()
    """Files, folders and data sets of your own, of any size: they are read as a stream. Repeats, and texts that a card
    above holds out, whatever language they are said to be in, are left out."""
    near: float = Field(1.0, gt=0, le=1)
    """Jaccard index from which texts of `texts` are near-duplicates; 1 leaves out exact repeats only, and takes 10
    bytes a text in place of 100. Cards are always searched for near ones."""
    languages: tuple[str, ...] = ()
    """Only texts in these languages; all when empty."""

    @model_validator(mode="after")
    def _has_some(self) -> Self:
        if not self.cards and not self.texts:
            raise ValueError("cards, texts: give one of them at least")
        return self

    def digests(self) -> dict[str, str]:
        """By which data a run is known again."""
        found = {card.name: data_digest(card) for card in map(load_card, self.cards)}
        return found | {f"texts {number}": source_digest(source) for number, source in enumerate(self.texts)}

    def open(self, seed: int, cache: Path) -> "OpenTexts":
        """Divides the cards; `texts` are read when they are gone through.

        Args:
            seed: Of the division.
            cache: A folder that keeps it.

        Raises:
            DataError: A card has no text, or a source is not there.
        """
        cards = [load_card(name) for name in self.cards]
        corpora = divide_corpora(cards, seed, cache)
        streams = tuple(open_source(source) for source in self.texts)
        parts = [FORMAT, self.digests(), self.languages, self.near, seed]
        return OpenTexts(self, tuple(cards), corpora, streams, hashlib.sha256(repr(parts).encode()).hexdigest()[:16])


@dataclass(frozen=True, eq=False)
class OpenTexts:
    """A stream of rows, the same each time it is gone through; only the texts of cards are in memory.

    Attributes:
        config: What was asked for.
        cards: Of the texts.
        corpora: Of the cards, divided.
        streams: Of the other texts.
        digest: Of all that decides which rows there are.
    """

    config: PretrainingTexts
    cards: tuple[DataCard, ...]
    corpora: DividedCorpora
    streams: tuple[RowStream, ...]
    digest: str

    def __iter__(self) -> Iterator[Row]:
        yield from self._of_cards()
        yield from compress(self._of_streams(), self._kept) if self.streams else ()

    @property
    def groups(self) -> Iterator[str]:
        """The group of each text; of one without, a digest of the text."""
        return (row.group or text_digest(row.text) for row in self)

    @property
    def parallel(self) -> Corpus:
        """The texts that have a group, such as a message with its translations; in memory."""
        rows = [row for row in self if row.group]
        return Corpus(pd.DataFrame(rows, columns=Row._fields))

    @cached_property
    def _card_corpus(self) -> Corpus | None:
        if not self.cards:
            return None
        corpus, wanted = self.corpora.all_train, self.config.languages
        return (
            corpus.take(np.isin(corpus.languages, wanted or corpus.languages))
            if self.streams
            else (corpus.of_languages(wanted))
        )

    @cached_property
    def _kept(self) -> np.ndarray:
        """Which texts of the streams are kept: no repeats, and none that a card holds out."""
        finder = RepeatFinder(threshold=self.config.near)
        for corpus in self.corpora.test.values():
            finder.hold_out(corpus.texts)
        found = set()
        for row in track(chain(self._of_cards(), self._of_streams()), "looking for repeats"):
            finder.add(row.text, row.language)
            found.add(row.language)
        self._say_what_was_read()
        for language in self.config.languages:
            if language not in found:
                raise DataError(f"no texts in language {language!r}; {nearest(language, sorted(found))}")
        reasons = finder.reasons()[len(self._card_corpus or ()) :]
        counts = Counter(reasons.tolist())
        said = ", ".join(f"{counts[reason]:,} {reason.name.lower().replace('_', ' ')}" for reason in list(Repeat)[1:])
        log.info("own texts: %s kept; left out: %s", f"{counts[Repeat.NONE]:,}", said)
        return reasons == Repeat.NONE

    def _say_what_was_read(self) -> None:
        for stream in self.streams:
            said = ", ".join(f"{count:,} {what}" for what, count in stream.counts.items())
            log.info("%s: %s", stream.name, said or "0 read")
            if stream.empty_files:
                log.warning("%s: %s files hold no text", stream.name, f"{len(stream.empty_files):,}")

    def _of_cards(self) -> Iterator[Row]:
        if self._card_corpus is not None:
            frame = self._card_corpus.frame
            for text, language, group in zip(frame["text"], frame["language"], frame["group"], strict=True):
                yield Row(text, language, group=group)

    def _of_streams(self) -> Iterator[Row]:
        wanted = self.config.languages
        for stream in self.streams:
            for row in stream:
                if not wanted or row.language in wanted:
                    yield row


def find_tokenizer(
    texts: OpenTexts,
    config: TokenizerConfig,
    folder: Path,
    *,
    seed: int,
    before: TextTokenizer | None,
    vocabulary: Literal["keep", "extend", "replace"],
) -> TextTokenizer:
    """The tokenizer of a checkpoint, or one that `folder` holds, or one that is trained and put there.

    Args:
        texts: The corpus.
        config: How a vocabulary is learnt.
        folder: For this corpus and these settings.
        seed: Of the sample that is learnt from.
        before: The checkpoint's, where training goes on from one.
        vocabulary: What becomes of it.

    Raises:
        DataError: The texts do not suffice for a vocabulary.
        CheckpointError: The tokenizer cannot be extended, or fails its certificate.
    """
    if before and vocabulary == "keep":
        return before
    try:
        return load_tokenizer(folder)
    except CheckpointError:
        log.info("training a tokenizer and certifying it: a minute or two for 50,000 texts")
    if before and vocabulary == "extend":
        return extend_tokenizer(before, texts, config, folder, seed)
    return train_tokenizer(texts, config, folder, seed)


def batches_for(
    texts: OpenTexts,
    store: TokenStore,
    tokenizer: TextTokenizer,
    training: TrainingConfig,
    *,
    pairing: Pairing | None,
    packed: bool,
    masking: MaskingConfig,
    balance: BalanceConfig,
    seed: int,
) -> tuple[MaskedBatches | PairBatches, TrainingConfig]:
    """The batches of a method, and its training with its length in steps, over which masks and balance may change.

    It is warned of languages whose texts are seen very often.

    Args:
        texts: The corpus; translations are found in it by their groups.
        store: Its tokens, cut to the encoder's length.
        tokenizer: Theirs.
        training: How long, and rows a step.
        pairing: What pairs of texts the method wants, if it does.
        packed: Whether rows hold several texts, where there are no pairs.
        masking: Shares.
        balance: How often each language is drawn.
        seed: Of all draws.

    Raises:
        DataError: There are no such pairs.
    """
    assert store.max_length is not None
    make: Callable[..., MaskedBatches | PairBatches]
    if pairing is None:
        make = partial(MaskedBatches, store, tokenizer, masking, packed=packed)
    elif pairing == "translation":
        pairs = TranslationPairs.build(translations(texts.parallel), tokenizer, store.max_length)
        make = partial(PairBatches, pairs, tokenizer, masking, pairing=pairing)
    else:
        segments = SegmentPairs(store, tokenizer, pairing, store.max_length)
        make = partial(PairBatches, segments, tokenizer, masking, pairing=pairing)
    make = partial(make, batch_size=training.batch_size, balance=balance, seed=seed)
    num_steps = count_steps(training, make())
    batches = make(num_steps=num_steps)
    if balance.max_passes is None:
        _warn_of_passes(batches.sampler, balance, num_steps)
    return batches, training.model_copy(update={"num_steps": num_steps, "num_epochs": None, "num_tokens": None})


def _warn_of_passes(sampler: TextSampler | PackedSampler, balance: BalanceConfig, num_steps: int) -> None:
    source = sampler.source
    counts = np.bincount(source.languages, minlength=len(source.language_names)).tolist()
    sizes = {name: count for name, count in zip(source.language_names, counts, strict=True) if count}
    drawn = num_steps * sampler.batch_size * len(source) / sampler.samples_per_epoch
    moments = [shares_at(sizes, balance, progress) for progress in np.linspace(0, 1, 50, endpoint=False)]
    passes = {name: drawn * np.mean([shares[name] for shares in moments]) / size for name, size in sizes.items()}
    often = [f"{name} ({sizes[name]:,} texts, each about {times:,.0f} times)" for name, times in passes.items()
             if times > OFTEN]  # fmt: skip
    if often:
        log.warning("seen very often in this stage: %s; set balance.max_passes, or find more texts", ", ".join(often))


def write_masked_shares(batches: MaskedBatches | PairBatches, num_steps: int, path: Path) -> None:
    """Writes which share of each language's tokens is masked, over steps evenly spaced in a stage, and logs the range.

    Args:
        batches: Of the stage.
        num_steps: Of the stage.
        path: A CSV file.
    """
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, LOOKED_AT)).astype(int))
    looked_at = (batches.batch(int(step)) for step in track(steps, "counting masks"))
    shares = masked_shares(looked_at, batches.boundaries.maskable, batches.language_names)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("language", "masked_share"))
        writer.writerows((language, f"{share:.4f}") for language, share in shares.items())
    log.info("masked: %.1f to %.1f %% of a language's tokens", *(100 * of(shares.values()) for of in (min, max)))
