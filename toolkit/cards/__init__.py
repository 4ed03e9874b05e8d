"""Cards of data (what they are, how they are fetched, verified and read), of saved encoders and of public models."""

from toolkit.cards.card import DataCard, list_cards, load_card
from toolkit.cards.facts import Split
from toolkit.cards.fetch import data_digest, data_root, fetch, verify
from toolkit.cards.model_card import without_folders, write_model_card
from toolkit.cards.public_model import PublicModel, list_public_models, load_public_model
from toolkit.cards.reader import (
    DocumentsReader,
    GettextReader,
    JsonLinesReader,
    LinesReader,
    ParallelReader,
    ParquetReader,
    Reader,
    SqliteReader,
    TableReader,
    TmxReader,
    VolumeReader,
)
from toolkit.cards.source import Member, Source

__all__ = [
    "DataCard",
    "DocumentsReader",
    "GettextReader",
    "JsonLinesReader",
    "LinesReader",
    "Member",
    "ParallelReader",
    "ParquetReader",
    "PublicModel",
    "Reader",
    "Source",
    "Split",
    "SqliteReader",
    "TableReader",
    "TmxReader",
    "VolumeReader",
    "data_digest",
    "data_root",
    "fetch",
    "list_cards",
    "list_public_models",
    "load_card",
    "load_public_model",
    "verify",
    "without_folders",
    "write_model_card",
]
