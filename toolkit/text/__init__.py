"""Corpora in many languages, SentencePiece, token batches, masking, and spectral embeddings."""

from toolkit.text.balance import sampling_shares
from toolkit.text.corpus import Corpus, concatenate
from toolkit.text.readers import read_corpus, read_table
from toolkit.text.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer

__all__ = [
    "Corpus",
    "TokenizerConfig",
    "concatenate",
    "load_tokenizer",
    "read_corpus",
    "read_table",
    "sampling_shares",
    "train_tokenizer",
]
