"""The numbers on the cards are those of the code: each text card is fetched and read for real."""

from pathlib import Path
from typing import Any

import pytest

from toolkit.cards import fetch, load_card
from toolkit.errors import FetchError
from toolkit.text import Corpus, read_corpus

CARDS = Path(__file__).parents[2] / "data_cards"
TEXT_CARDS = sorted([*CARDS.glob("sentiment_*.md"), *CARDS.glob("messages_*.md")])


def measured(corpus: Corpus) -> dict[str, Any]:
    """What a card says under `counts`."""
    classes = {name: int((corpus.labels == index).sum()) for index, name in enumerate(corpus.class_names)}
    return corpus.counts | ({"classes": classes} if classes else {})


@pytest.mark.slow
@pytest.mark.parametrize("path", TEXT_CARDS, ids=lambda path: path.stem)
def test_counts_on_the_card(path: Path) -> None:
    card = load_card(path)
    try:
        folder = fetch(card)
    except FetchError as error:
        if "check the network" in str(error):
            pytest.skip(str(error))
        raise
    assert measured(read_corpus(card, folder)) == card.counts


def test_counts_on_the_card_that_brings_its_data() -> None:
    card = load_card(CARDS / "words_in_context.md")
    assert measured(read_corpus(card, fetch(card))) == card.counts
