"""Data cards: what a data set is, where it comes from, how it is fetched and verified, and how it is read."""

from toolkit.cards.card import DataCard, list_cards, load_card
from toolkit.cards.facts import Split
from toolkit.cards.fetch import data_digest, data_root, fetch, verify
from toolkit.cards.model_card import without_folders, write_model_card
from toolkit.cards.reader import (
    GettextReader,
    JsonLinesReader,
    LinesReader,
    ParquetReader,
    Reader,
    SqliteReader,
    TableReader,
    VolumeReader,
)
from toolkit.cards.source import Member, Source

__all__ = [
    "DataCard",
    "GettextReader",
    "JsonLinesReader",
    "LinesReader",
    "Member",
    "ParquetReader",
    "Reader",
    "Source",
    "Split",
    "SqliteReader",
    "TableReader",
    "VolumeReader",
    "data_digest",
    "data_root",
    "fetch",
    "list_cards",
    "load_card",
    "verify",
    "without_folders",
    "write_model_card",
]
