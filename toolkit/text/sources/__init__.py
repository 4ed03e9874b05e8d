"""Texts wherever they lie, as a stream of rows: files, folders, data cards, data sets of Hugging Face."""

from toolkit.text.sources.row import Row
from toolkit.text.sources.spec import AnyTextSource, TextSource
from toolkit.text.sources.stream import RowStream, open_source, source_digest

__all__ = ["AnyTextSource", "Row", "RowStream", "TextSource", "open_source", "source_digest"]
