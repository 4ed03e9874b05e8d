"""Corpora in many languages, SentencePiece, token batches, masking, and spectral embeddings."""

from toolkit.text.batches import MaskedBatches
from toolkit.text.corpus import Corpus, concatenate
from toolkit.text.divided import DividedCorpora, divide_corpora, hold_out
from toolkit.text.masking import MaskingConfig
from toolkit.text.pretraining import (
    OpenTexts,
    PretrainingTexts,
    batches_for,
    find_tokenizer,
    write_masked_shares,
)
from toolkit.text.readers import read_corpus, read_table
from toolkit.text.spectral import SpectralConfig, inverse_document_frequency, spectral_embeddings
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer

__all__ = [
    "Corpus",
    "DividedCorpora",
    "MaskedBatches",
    "MaskingConfig",
    "OpenTexts",
    "PretrainingTexts",
    "SpectralConfig",
    "TokenStore",
    "TokenizerConfig",
    "batches_for",
    "concatenate",
    "divide_corpora",
    "find_tokenizer",
    "hold_out",
    "inverse_document_frequency",
    "load_tokenizer",
    "read_corpus",
    "read_table",
    "spectral_embeddings",
    "train_tokenizer",
    "write_masked_shares",
]
