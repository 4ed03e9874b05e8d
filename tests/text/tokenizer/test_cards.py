"""On every text of every card, in both models, both implementations give the same ids."""

from pathlib import Path

import pytest

from toolkit.cards import list_cards
from toolkit.errors import FetchError
from toolkit.text import TokenizerConfig, train_tokenizer
from toolkit.text.sources import open_source
from toolkit.text.tokenizer.certificate import certify

CARDS = [card.name for card in list_cards() if card.languages]


@pytest.mark.slow  # fetches the texts where they are not there yet
@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_no_text_of_any_card_differs(model: str, tmp_path: Path) -> None:
    assert len(CARDS) >= 6
    try:
        rows = [(row.text, row.language) for card in CARDS for row in open_source(card)]
    except FetchError as error:
        if "check the network" in str(error):
            pytest.skip(str(error))
        raise
    config = TokenizerConfig(model=model, vocab_size=16000, max_characters=5_000_000, num_generated=0)
    tokenizer = train_tokenizer(rows, config, tmp_path)
    certificate = certify(tokenizer, [text for text, _ in rows])
    assert certificate["texts"] >= len(rows) > 100_000
    assert certificate["differing"] == certificate["lossy"] == 0, certificate["examples"]
