"""Text encoders: transformers from a configuration or from a checkpoint, each with its tokenizer and its pooling."""

from toolkit.encoders.text.architecture import TextEncoderConfig, transformers_config
from toolkit.encoders.text.encoder import TextEncoder
from toolkit.encoders.text.head import LMHead
from toolkit.encoders.text.pooling import PoolingConfig, TextFeatures
from toolkit.encoders.text.start import Started, StartFrom, open_encoder, start_from
from toolkit.encoders.text.vocabulary import VocabularyReport, replace_vocabulary

__all__ = [
    "LMHead",
    "PoolingConfig",
    "StartFrom",
    "Started",
    "TextEncoder",
    "TextEncoderConfig",
    "TextFeatures",
    "VocabularyReport",
    "open_encoder",
    "replace_vocabulary",
    "start_from",
    "transformers_config",
]
