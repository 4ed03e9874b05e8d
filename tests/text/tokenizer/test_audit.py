"""Counts by language against ones made by hand."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from toolkit.reports import png
from toolkit.text.tokenizer import SentencePieceTokenizer
from toolkit.text.tokenizer.audit import audit_figure, audit_table, audit_tokenizer

TEXTS = [("The film was a delight.", "en"), ("这本书写得很好。", "zh"), ("Ω ≠ film", "el"), ("", "en")]


def test_counts_are_those_made_by_hand(either: SentencePieceTokenizer) -> None:
    audit = audit_tokenizer(either, TEXTS).set_index("language")
    english = either.encode([TEXTS[0][0]])[0]
    assert list(audit.index) == ["el", "en", "zh"]
    assert audit.loc["en", "texts"] == 2 and audit.loc["en", "words"] == 5 and audit.loc["en", "characters"] == 19
    assert audit.loc["en", "fertility"] == len(english) / 5 and audit.loc["en", "fertility_per"] == "word"
    assert audit.loc["zh", "fertility"] == len(either.encode([TEXTS[1][0]])[0]) / 8
    assert audit.loc["zh", "fertility_per"] == "character"
    assert audit.loc["en", "characters_per_token"] == pytest.approx(19 / len(english))
    greek = either.encode([TEXTS[2][0]])[0]
    assert audit.loc["el", "byte_fallback_share"] == pytest.approx(5 / len(greek))  # two letters of two and three bytes
    assert (audit.unknown_share == 0).all() and (audit.dropped_bytes == 0).all()


def test_table_and_figure_show_every_language(either: SentencePieceTokenizer) -> None:
    audit = audit_tokenizer(either, TEXTS)
    console = Console(file=io.StringIO(), width=120)
    console.print(audit_table(audit))
    lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["el", "en", "zh"]
    drawn = np.asarray(Image.open(io.BytesIO(png(audit_figure(audit)))).convert("L"))
    assert drawn.shape[1] > 800 and drawn.min() < 100


def test_it_goes_through_a_stream_in_batches(either: SentencePieceTokenizer) -> None:
    audit = audit_tokenizer(either, iter(TEXTS * 3000)).set_index("language")
    assert audit.loc["zh", "texts"] == 3000
    assert audit.loc["zh", "fertility"] == audit_tokenizer(either, TEXTS).set_index("language").loc["zh", "fertility"]
