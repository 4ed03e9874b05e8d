"""Text encoders: a transformer, its tokenizer, and how its token vectors become one vector a text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from toolkit.config import Section
from toolkit.console import track
from toolkit.encoders.sharing import share_weights
from toolkit.errors import CheckpointError, DataError
from toolkit.text.tokenizer import BOS, EOS, PAD, TextTokenizer, load_tokenizer

POOLING = "pooling.json"
POOLING_TENSORS = "pooling.safetensors"


class TextEncoderConfig(Section):
    """Size of the transformer."""

    architecture: Literal["bert", "xlm-roberta"] = "bert"
    """Class of transformers that opens it."""
    num_layers: int = Field(4, ge=1)
    """Transformer blocks."""
    hidden_size: int = Field(192, ge=8)
    """Width."""
    num_heads: int = Field(4, ge=1)
    """Attention heads; they divide the width."""
    max_length: int = Field(128, ge=8)
    """Tokens a text, start and end included; longer ones are cut when embedding."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Of hidden states and attention."""


class PoolingConfig(Section):
    """How the vectors of a text's tokens become one vector."""

    layers: tuple[int, ...] = (-1,)
    """Hidden states that are pooled: 0 the embeddings, -1 the last layer. Several are concatenated."""
    static: bool = False
    """Concatenate the pooled spectral vectors of the tokens as well."""
    token_weights: bool = True
    """Weigh tokens by the weights that travel with the encoder (inverse document frequency); otherwise
    alike."""


class TextFeatures(NamedTuple):
    """What the transformer gives for a batch."""

    hidden_states: tuple[Tensor, ...]
    """num_layers + 1 of (B, T, H): the embeddings, then each layer."""
    input_ids: Tensor
    """(B, T)."""

    @property
    def last(self) -> Tensor:
        """(B, T, H), the last layer."""
        return self.hidden_states[-1]


class TextEncoder(nn.Module):
    """A transformers model with its tokenizer and its pooling.

    Args:
        model: A model of transformers that gives hidden states.
        tokenizer: Its tokenizer.
        variants: Poolings by name; the first is the one that `embed` and `pooled` take.
        max_length: Tokens a text, start and end included.
        token_weights: (V,) weight of each token; ones if not given.
        static_vectors: (V, S) spectral vectors for poolings with `static`; none if not given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TextTokenizer,
        *,
        variants: Mapping[str, PoolingConfig],
        max_length: int,
        token_weights: Tensor | None = None,
        static_vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.variants = dict(variants)
        self.max_length = max_length
        num_tokens = len(tokenizer)
        weights = torch.ones(num_tokens) if token_weights is None else token_weights.float().clone()
        weights[[PAD, BOS, EOS]] = 0  # only what the text says is pooled
        self.register_buffer("token_weights", weights)
        self.register_buffer(
            "static_vectors", torch.empty(num_tokens, 0) if static_vectors is None else static_vectors.float()
        )

    @classmethod
    def from_scratch(
        cls,
        config: TextEncoderConfig,
        tokenizer: TextTokenizer,
        *,
        variants: Mapping[str, PoolingConfig] | None = None,
        token_weights: np.ndarray | None = None,
        spectral: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """An untrained encoder.

        Args:
            config: Its size.
            tokenizer: Its vocabulary.
            variants: Poolings by name, the default first.
            token_weights: (V,) weight of each token in pooling.
            spectral: (V, S) spectral vectors: the token embeddings start from their first components, scaled
                to the deviation that the architecture starts from, and `static` poolings use them as they
                are.
            seed: Of the random weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModel.from_config(_transformers_config(config, len(tokenizer)))
        model.pooler = None  # a layer over the first token, which nothing here trains
        if spectral is not None:
            with torch.no_grad():
                _start_from(model, torch.from_numpy(spectral))
        return cls(
            model,
            tokenizer,
            variants=variants or {"last": PoolingConfig()},
            max_length=config.max_length,
            token_weights=None if token_weights is None else torch.from_numpy(token_weights),
            static_vectors=None if spectral is None else torch.from_numpy(spectral),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles by configuration and weights; hooks of transformers cannot be pickled."""
        kept = {
            "max_length": self.max_length,
            "token_weights": self.token_weights,
            "static_vectors": self.static_vectors,
        }
        return _rebuilt, (
            type(self),
            self.model.config,
            self.state_dict(),
            self.tokenizer,
            self.variants,
            kept,
            self.training,
        )

    def untrained(self, seed: int) -> Self:
        """A new encoder of the same size with random weights, that pools its last layer's tokens alike."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModel.from_config(self.model.config)
        model.pooler = None
        variants = {"last": PoolingConfig(token_weights=False)}
        return type(self)(model, self.tokenizer, variants=variants, max_length=self.max_length).eval()

    def collate(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What `forward` takes, of texts: `input_ids` and `attention_mask`, both (B, T)."""
        return self._padded([ids[: self.max_length - 2] for ids in self.tokenizer.encode(texts)])

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self.model.config.hidden_size

    @property
    def embed_dim(self) -> int:
        """Width of the default variant."""
        return self.dim_of(next(iter(self.variants.values())))

    def dim_of(self, pooling: PoolingConfig) -> int:
        """Width of a pooling."""
        return len(pooling.layers) * self.hidden_size + pooling.static * self.static_vectors.shape[1]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Whether training forgets activations within blocks and computes them again in the backward pass."""
        newer = hasattr(self.model, "activation_checkpointing_enable")  # it warns about the older name
        switch = f"{'activation' if newer else 'gradient'}_checkpointing_{'enable' if enabled else 'disable'}"
        getattr(self.model, switch)(*[{"use_reentrant": False}] * enabled)

    def forward(self, batch: Mapping[str, Tensor]) -> TextFeatures:
        """Hidden states of a batch with `input_ids` and `attention_mask`, both (B, T)."""
        output = self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        )
        return TextFeatures(output.hidden_states, batch["input_ids"])

    def pooled(self, features: TextFeatures, pooling: PoolingConfig | None = None) -> Tensor:
        """(B, D) one vector a text: a weighted mean of each part, each scaled to norm 1, side by side.

        Args:
            features: Of a batch.
            pooling: Which parts; the default variant's if not given.
        """
        pooling = pooling or next(iter(self.variants.values()))
        weights_BT = self.token_weights[features.input_ids]
        if not pooling.token_weights:
            weights_BT = (weights_BT > 0).to(weights_BT.dtype)
        parts = [features.hidden_states[layer] for layer in pooling.layers]
        if pooling.static:
            parts.append(self.static_vectors[features.input_ids])
        return torch.cat([F.normalize(torch.einsum("bt,btd->bd", weights_BT, part), dim=1) for part in parts], dim=1)

    def embed(self, texts: Sequence[str], batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """Embeds texts by the default variant.

        Args:
            texts: N texts; those beyond `max_length` tokens are cut, an empty one is a zero vector.
            batch_size: Texts at a time, of like length.
            progress: Show how far it is.

        Returns:
            float32 (N, embed_dim).
        """
        name = next(iter(self.variants))
        return self.embed_variants(texts, batch_size, progress, names=(name,))[name]

    @torch.inference_mode()
    def embed_variants(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        progress: bool = False,
        names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """As `embed`, by several variants in one pass.

        Args:
            texts: N texts.
            batch_size: Texts at a time.
            progress: Show how far it is.
            names: Variants; all of them if not given.

        Returns:
            float32 (N, D) by name.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise DataError("embed takes a list of strings")
        poolings = {name: self.variants[name] for name in names or self.variants}
        embedded = {
            name: np.zeros((len(texts), self.dim_of(pooling)), np.float32) for name, pooling in poolings.items()
        }
        ids = [text[: self.max_length - 2] for text in self.tokenizer.encode(texts)]
        order = np.argsort([len(text) for text in ids], kind="stable")
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        was_training = self.training
        self.eval()
        for rows in track(batches, "embedding texts") if progress else batches:
            features = self(self._padded([ids[row] for row in rows]))
            for name, pooling in poolings.items():
                embedded[name][rows] = self.pooled(features, pooling).float().cpu().numpy()
        self.train(was_training)
        return embedded

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes what `load_encoder`, `AutoModel` and `AutoTokenizer` open."""
        folder = Path(folder)
        # transformers would draw a missing pooler at random each time; this one hands the first token on.
        width = self.hidden_size
        pooler = {"pooler.dense.weight": torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
        self.model.save_pretrained(folder, state_dict=self.model.state_dict() | pooler)
        self.tokenizer.save(folder)
        spec = {
            "max_length": self.max_length,
            "variants": {name: pooling.model_dump(mode="json") for name, pooling in self.variants.items()},
        }
        (folder / POOLING).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
        tensors = {"token_weights": self.token_weights, "static_vectors": self.static_vectors}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / POOLING_TENSORS)
        share_weights(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Opens what `save_pretrained` wrote.

        Raises:
            CheckpointError: A file is missing or broken, weights do not fit, or the tokenizer is not
                certified.
        """
        folder = Path(folder)
        try:
            spec = json.loads((folder / POOLING).read_text(encoding="utf-8"))
            tensors = load_file(folder / POOLING_TENSORS)
            variants = {name: PoolingConfig(**pooling) for name, pooling in spec["variants"].items()}
            config = AutoConfig.from_pretrained(folder)
            model = AutoModel.from_config(config)
            model.pooler = None
            weights = load_file(folder / "model.safetensors")
            model.load_state_dict({name: w for name, w in weights.items() if not name.startswith("pooler.")})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder}: is not a text encoder that fits: {' '.join(str(error).split())[:300]}"
            ) from None
        return cls(model, load_tokenizer(folder), variants=variants, max_length=spec["max_length"], **tensors).eval()

    def _padded(self, ids: list[list[int]]) -> dict[str, Tensor]:
        longest = max(map(len, ids)) + 2
        rows = [[BOS, *text, EOS] + [PAD] * (longest - 2 - len(text)) for text in ids]
        input_ids = torch.tensor(rows, device=self.token_weights.device)
        return {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long()}


def _rebuilt(
    cls: type[TextEncoder],
    config: PretrainedConfig,
    state: dict[str, Tensor],
    tokenizer: TextTokenizer,
    variants: Mapping[str, PoolingConfig],
    kept: dict[str, Any],
    training: bool,
) -> TextEncoder:
    with torch.random.fork_rng(devices=[]):  # the random weights, which do not last, draw on another stream
        model = AutoModel.from_config(config)
    model.pooler = None
    encoder = cls(model, tokenizer, variants=variants, **kept)
    encoder.load_state_dict(state)
    return encoder.train(training)


def _transformers_config(config: TextEncoderConfig, vocab_size: int) -> PretrainedConfig:
    first_position = PAD + 1 if config.architecture == "xlm-roberta" else 0  # its positions count from there
    return AutoConfig.for_model(
        config.architecture,
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=4 * config.hidden_size,
        max_position_embeddings=config.max_length + first_position,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def _start_from(model: PreTrainedModel, spectral_VS: Tensor) -> None:
    """Makes the untrained model repeat the spectral vectors: every block starts as the identity.

    Training then adds context to what counting found; from random blocks it would have to find it again. The
    branches of each block are closed by a zero output matrix (as in Fixup: Zhang et al. 2019,
    arXiv:1901.09321), and positions and types start near zero, since they carry nothing yet.
    """
    weight_VH = model.get_input_embeddings().weight
    width = min(weight_VH.shape[1], spectral_VS.shape[1])
    known = spectral_VS.abs().sum(dim=1) > 0
    vectors = spectral_VS[known, :width].to(weight_VH)
    weight_VH[known, width:] = 0
    weight_VH[known, :width] = vectors * model.config.initializer_range / vectors.std().clamp_min(1e-12)
    for embedding in (model.embeddings.position_embeddings, model.embeddings.token_type_embeddings):
        embedding.weight.mul_(0.05)
    for block in model.encoder.layer:
        block.attention.output.dense.weight.zero_()
        block.output.dense.weight.zero_()
