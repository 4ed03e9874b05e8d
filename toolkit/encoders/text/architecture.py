"""The transformers that are built here: their configurations, and how vectors found by counting enter them."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from toolkit.config import Section
from toolkit.errors import ConfigError
from toolkit.text.tokenizer import SpecialIds

SPECTRAL = ("bert", "xlm-roberta", "modernbert", "electra")
"""Model types that can start from spectral vectors."""


class TextEncoderConfig(Section):
    """Kind and size of the transformer."""

    architecture: Literal["bert", "xlm-roberta", "modernbert", "electra"] = "bert"
    """Class of transformers that opens it. ModernBERT (Warner et al. 2024, arXiv:2412.13663) normalises before each
    block, turns queries and keys by their position, gates its feed-forward layers, and lets only each third layer look
    further than 64 tokens to either side."""
    num_layers: int = Field(4, ge=1)
    """Transformer blocks."""
    hidden_size: int = Field(192, ge=8)
    """Width."""
    num_heads: int = Field(4, ge=1)
    """Attention heads; they divide the width."""
    embedding_size: int | None = Field(None, ge=8)
    """electra: width of the token embeddings, where it is below that of the blocks (Clark et al. 2020,
    arXiv:2003.10555)."""
    max_length: int = Field(128, ge=8)
    """Tokens a text, start and end included; longer ones are cut when embedding."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Of hidden states and attention."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] | None = None
    """How attention is computed; transformers' choice if not given. A saved encoder does not remember it."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        even = 2 if self.architecture == "modernbert" else 1
        if self.hidden_size % (even * self.num_heads):
            turned = f"; each head of {self.architecture} needs an even width" if even == 2 else ""
            raise ValueError(f"num_heads: {self.num_heads} do not divide hidden_size: {self.hidden_size}{turned}")
        if self.embedding_size and self.architecture != "electra":
            raise ValueError(f"embedding_size: only electra has one of its own; leave it out for {self.architecture}")
        if (self.embedding_size or 0) > self.hidden_size:
            raise ValueError(f"embedding_size: {self.embedding_size} is above hidden_size: {self.hidden_size}")
        return self


def transformers_config(config: TextEncoderConfig, vocab_size: int, special: SpecialIds) -> PretrainedConfig:
    """What transformers' `AutoModel` builds the model from.

    Args:
        config: Kind and size.
        vocab_size: V.
        special: Ids of the tokenizer's special tokens.
    """
    shared = {
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "pad_token_id": special.pad,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
    }
    if config.architecture == "modernbert":
        return AutoConfig.for_model(
            "modernbert",
            intermediate_size=3 * config.hidden_size // 2,  # as published; gated, so with three matrices
            max_position_embeddings=config.max_length,
            cls_token_id=special.bos,
            sep_token_id=special.eos,
            embedding_dropout=config.dropout,
            attention_dropout=config.dropout,
            mlp_dropout=config.dropout,
            **shared,
        )
    before = special.pad + 1 if config.architecture == "xlm-roberta" else 0  # its positions count from there
    narrow = {"embedding_size": config.embedding_size or config.hidden_size} if config.architecture == "electra" else {}
    return AutoConfig.for_model(
        config.architecture,
        intermediate_size=4 * config.hidden_size,
        max_position_embeddings=config.max_length + before,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        type_vocab_size=1,
        **narrow,
        **shared,
    )


def build_model(config: PretrainedConfig) -> PreTrainedModel:
    """An untrained model, its weights drawn from torch's generator, without a layer over the first token."""
    return without_pooler(AutoModel.from_config(config))


def set_attention(model: PreTrainedModel, name: str | None) -> None:
    """Chooses how attention is computed, unless it is left to transformers.

    Raises:
        ConfigError: This machine or this architecture cannot compute it so.
    """
    if name is None:
        return
    reason = f"{model.config.model_type} has no choice"
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
    if model.config._attn_implementation != name:
        raise ConfigError(f"encoder.attn_implementation: {name} does not go here: {reason}")


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Takes away the layer over the first token, where there is one: nothing here trains it."""
    if hasattr(model, "pooler"):
        model.pooler = None
    return model


def first_position(model: PreTrainedModel) -> int:
    """The position id of a text's first token: 0, or one after the padding's in the family of RoBERTa."""
    table = position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def position_table(model: PreTrainedModel) -> nn.Embedding | None:
    """The learnt vectors of positions; None where positions are not learnt."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    return table if isinstance(table, nn.Embedding) else None


@torch.no_grad()
def start_from_spectral(model: PreTrainedModel, spectral_VS: Tensor) -> None:
    """Makes an untrained model repeat spectral vectors: every block starts as the identity.

    Training then adds context to what counting found; from random blocks it would have to find it again. The
    branches of each block are closed by a zero output matrix (as in Fixup: Zhang et al. 2019,
    arXiv:1901.09321), and positions and types start near zero, since they carry nothing yet.

    Args:
        model: Untrained, in place.
        spectral_VS: Vectors; the token embeddings take their first components, scaled to the deviation that the
            architecture starts from. Rows of zeros stay as they were drawn.

    Raises:
        ConfigError: An architecture whose blocks nobody has looked at.
    """
    kind = model.config.model_type
    if kind not in SPECTRAL:
        raise ConfigError(
            f"encoder.architecture: {kind} cannot start from spectral vectors, only {', '.join(SPECTRAL)} can; leave "
            "them out"
        )
    weight_VE = model.get_input_embeddings().weight
    width = min(weight_VE.shape[1], spectral_VS.shape[1])
    known = spectral_VS.abs().sum(dim=1) > 0
    vectors = spectral_VS[known, :width].to(weight_VE)
    weight_VE[known, width:] = 0
    weight_VE[known, :width] = vectors * model.config.initializer_range / vectors.std().clamp_min(1e-12)
    for name in ("position_embeddings", "token_type_embeddings"):
        if table := getattr(model.embeddings, name, None):
            table.weight.mul_(0.05)
    if hasattr(model, "embeddings_project"):
        _widen_evenly(model.embeddings_project)
    if kind == "modernbert":
        closed = [output for block in model.layers for output in (block.attn.Wo, block.mlp.Wo)]
    else:
        closed = [
            output for block in model.encoder.layer for output in (block.attention.output.dense, block.output.dense)
        ]
    for output in closed:
        output.weight.zero_()


def _widen_evenly(projection: nn.Linear) -> None:
    """Turns a projection to a wider space into one that keeps angles, mean 0 and variance 1, so norms pass it on."""
    wide, narrow = projection.weight.shape
    columns = torch.randn(wide, narrow, dtype=torch.float64)
    basis, _ = torch.linalg.qr(columns - columns.mean(dim=0))
    projection.weight.copy_(basis * (wide / narrow) ** 0.5)
    projection.bias.zero_()
