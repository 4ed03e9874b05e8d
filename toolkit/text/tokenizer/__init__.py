"""Tokenizers: SentencePiece trained here and certified, and fast tokenizers from elsewhere, behind one contract."""

from toolkit.text.splitting import split_line
from toolkit.text.tokenizer.base import WORD_START, SpecialIds, TextTokenizer
from toolkit.text.tokenizer.certificate import SPIECE
from toolkit.text.tokenizer.fast import SPECIAL_TOKENS
from toolkit.text.tokenizer.foreign import ForeignTokenizer
from toolkit.text.tokenizer.loading import load_foreign_tokenizer, load_tokenizer
from toolkit.text.tokenizer.normalizing import build_normalizer
from toolkit.text.tokenizer.sentencepiece import SentencePieceTokenizer
from toolkit.text.tokenizer.training import TokenizerConfig, train_tokenizer

__all__ = [
    "SPECIAL_TOKENS",
    "SPIECE",
    "WORD_START",
    "ForeignTokenizer",
    "SentencePieceTokenizer",
    "SpecialIds",
    "TextTokenizer",
    "TokenizerConfig",
    "build_normalizer",
    "load_foreign_tokenizer",
    "load_tokenizer",
    "split_line",
    "train_tokenizer",
]
