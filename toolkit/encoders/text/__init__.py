"""Text encoders: transformers from a configuration or from a checkpoint, each with its tokenizer and its pooling."""

from toolkit.encoders.text.encoder import PoolingConfig, TextEncoder, TextEncoderConfig, TextFeatures

__all__ = ["PoolingConfig", "TextEncoder", "TextEncoderConfig", "TextFeatures"]
