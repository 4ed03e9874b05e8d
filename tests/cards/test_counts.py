"""The numbers on the cards are those of the code: each text card is fetched and read for real."""

from pathlib import Path

import pytest

from toolkit.cards import fetch, load_card
from toolkit.errors import FetchError
from toolkit.text import read_corpus

CARDS = Path(__file__).parents[2] / "data_cards"
TEXT_CARDS = sorted([*CARDS.glob("sentiment_*.md"), *CARDS.glob("messages_*.md")])


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
    corpus = read_corpus(card, folder)
    measured = dict(corpus.counts)
    if card.class_names:
        labels = corpus.labels
        measured["classes"] = {name: int((labels == index).sum()) for index, name in enumerate(card.class_names)}
    assert measured == card.counts
