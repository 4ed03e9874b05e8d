"""The head of masked modelling: it travels with the encoder, whose token embeddings are its output weights."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from toolkit.console import log

TOLERANCE = 1e-4
"""Between logits of a model's own head and of ours, relative to their size."""


class HeadNames(NamedTuple):
    """Where a model of transformers keeps the parts of its head."""

    dense: str
    norm: str
    bias: str


class LMHead(nn.Module):
    """Dense, GELU and layer norm before the tied output weights (Press & Wolf 2017, arXiv:1608.05859).

    Args:
        hidden_size: H, of the encoder.
        embedding_size: E, of its token embeddings.
        vocab_size: V, rows of its token embeddings.
        eps: Of the layer norm.
        dense_bias: Whether the dense layer has a bias.
        norm_bias: Whether the layer norm has one.
    """

    def __init__(
        self,
        hidden_size: int,
        embedding_size: int,
        vocab_size: int,
        *,
        eps: float = 1e-12,
        dense_bias: bool = True,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Linear(hidden_size, embedding_size, bias=dense_bias),
            nn.GELU(),
            nn.LayerNorm(embedding_size, eps=eps, bias=norm_bias),
        )
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    @classmethod
    def like(cls, config: PretrainedConfig) -> Self:
        """A new head as transformers' own model of this configuration has it.

        Args:
            config: Of transformers.
        """
        model = _on_meta(config)
        names = _names(model)
        if names is None:  # a head of another kind, or none
            embeddings = model.get_input_embeddings().weight
            return cls(config.hidden_size, embeddings.shape[1], len(embeddings))
        return cls._shaped(model, names)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self | None:
        """The head of a masked model, proved equal to its own on a few vectors; None where it is of another kind.

        Args:
            model: With a head, such as `BertForMaskedLM`.
        """
        names = _names(model)
        if names is None:
            log.info("%s: its head is not dense, GELU, norm and tied weights; it is left out", type(model).__name__)
            return None
        head = cls._shaped(model, names)
        head.load_state_dict(_renamed(model.state_dict(), names, to_ours=True))
        embeddings_VE = model.get_input_embeddings().weight
        ids = torch.arange(min(8, len(embeddings_VE)))[None]
        with torch.inference_mode():
            output = model.eval()(input_ids=ids, output_hidden_states=True)
            difference = (head.logits(output.hidden_states[-1], embeddings_VE) - output.logits).abs().max()
            fits = difference <= TOLERANCE * output.logits.abs().max()
        if not fits:
            log.info("%s: its head computes something else; it is left out", type(model).__name__)
            return None
        return head

    @classmethod
    def _shaped(cls, model: PreTrainedModel, names: HeadNames) -> Self:
        dense, norm = model.get_submodule(names.dense), model.get_submodule(names.norm)
        return cls(
            dense.in_features,
            dense.out_features,
            len(model.get_input_embeddings().weight),
            eps=norm.eps,
            dense_bias=dense.bias is not None,
            norm_bias=norm.bias is not None,
        )

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """(M, E) what is compared with the token embeddings, of hidden states (M, H) as they leave the encoder."""
        transformed: Tensor = self.transform(hidden_MH)
        return transformed

    def logits(self, hidden_MH: Tensor, embeddings_VE: Tensor) -> Tensor:
        """(M, V) unnormalised log-probabilities of the tokens.

        Args:
            hidden_MH: Hidden states as they leave the encoder.
            embeddings_VE: The encoder's token embeddings.
        """
        return F.linear(self(hidden_MH), embeddings_VE, self.bias)

    def transformers_state(self, config: PretrainedConfig) -> tuple[str, dict[str, Tensor]]:
        """Transformers' class for such a model, and this head's tensors by its names; none where it has no such head.

        Args:
            config: Of transformers.
        """
        model = _on_meta(config)
        names = _names(model)
        return type(model).__name__, _renamed(self.state_dict(), names, to_ours=False) if names else {}


def head_state(tensors: Mapping[str, Tensor], config: PretrainedConfig) -> dict[str, Tensor]:
    """Tensors of a saved model's head by our names; empty where there is none.

    Args:
        tensors: Of the file.
        config: Of transformers.
    """
    names = _names(_on_meta(config))
    return _renamed(tensors, names, to_ours=True) if names else {}


def _on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """The model without memory: with a head, where transformers has such a class."""
    causal = getattr(config, "is_decoder", False)
    auto, known = (
        (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING)
        if causal
        else (AutoModelForMaskedLM, MODEL_FOR_MASKED_LM_MAPPING)
    )
    with torch.device("meta"):
        return (auto if type(config) in known else AutoModel).from_config(config)


def _names(model: PreTrainedModel) -> HeadNames | None:
    """Finds the parts: besides the encoder one dense layer, one norm and one layer whose weights are the embeddings."""
    embeddings = model.get_input_embeddings()
    output = model.get_output_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", True)
    if output is None or not isinstance(embeddings, nn.Embedding) or not tied or getattr(output, "bias", None) is None:
        return None
    encoder = f"{model.base_model_prefix}."
    outside = [(name, part) for name, part in model.named_modules() if not f"{name}.".startswith(encoder)]
    dense = [name for name, part in outside if isinstance(part, nn.Linear) and part is not output]
    norms = [name for name, part in outside if isinstance(part, nn.LayerNorm)]
    # Some models name the bias twice; the first name is the one that files have.
    bias = [name for name, parameter in model.named_parameters() if parameter is output.bias]
    width = embeddings.weight.shape[1]
    if len(dense) != 1 or len(norms) != 1 or not bias or model.get_submodule(dense[0]).out_features != width:
        return None
    return HeadNames(dense[0], norms[0], bias[0])


def _renamed(tensors: Mapping[str, Tensor], names: HeadNames, *, to_ours: bool) -> dict[str, Tensor]:
    """A head's tensors under our names, or from ours under a model's."""
    pairs = {
        f"{theirs}.{kind}": f"transform.{ours}.{kind}"
        for theirs, ours in ((names.dense, 0), (names.norm, 2))
        for kind in ("weight", "bias")
    } | {names.bias: "bias"}
    pairs = pairs if to_ours else {ours: theirs for theirs, ours in pairs.items()}
    return {new: tensors[old] for old, new in pairs.items() if old in tensors}
