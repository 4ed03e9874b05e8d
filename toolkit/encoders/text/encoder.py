"""Text encoders: a transformer, its tokenizer, and how its token vectors become one vector a text."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from toolkit.console import log, track
from toolkit.encoders.sharing import share_weights
from toolkit.encoders.text.architecture import (
    TextEncoderConfig,
    build_model,
    first_position,
    set_attention,
    start_from_spectral,
    transformers_config,
)
from toolkit.encoders.text.head import LMHead, head_state
from toolkit.encoders.text.packed import attention_inputs
from toolkit.encoders.text.pooling import PoolingConfig, TextFeatures
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.text.tokenizer import TextTokenizer, load_tokenizer

POOLING = "pooling.json"
POOLING_TENSORS = "pooling.safetensors"
WEIGHTS = "model.safetensors"


class TextEncoder(nn.Module):
    """A transformers model with its tokenizer and its pooling.

    Args:
        model: A model of transformers that gives hidden states.
        tokenizer: Its tokenizer.
        variants: Poolings by name; the first is the one that `embed` and `pooled` take.
        max_length: Tokens a text, start and end included.
        token_weights: (V,) weight of each token; ones if not given.
        static_vectors: (V, S) spectral vectors for poolings with `static`; none if not given.
        lm_head: The head of masked modelling that the model came with.

    Raises:
        CheckpointError: The tokenizer has tokens that the model has no vectors of.
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
        lm_head: LMHead | None = None,
    ) -> None:
        super().__init__()
        num_tokens, num_rows = len(tokenizer), len(model.get_input_embeddings().weight)
        if num_tokens > num_rows:
            raise CheckpointError(
                f"the tokenizer has {num_tokens} tokens, the checkpoint vectors of {num_rows}; keep the checkpoint's "
                "own tokenizer, or set start_from.vocabulary: replace"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.variants = dict(variants)
        self.max_length = max_length
        weights = torch.ones(num_tokens) if token_weights is None else token_weights.float().clone()
        special = tokenizer.special
        unsaid = [index for index in tokenizer.special_ids.tolist() if index != special.unk]
        weights[[*unsaid, special.mask]] = 0  # only what the text says is pooled
        self.register_buffer("token_weights", weights)
        self.register_buffer(
            "static_vectors", torch.empty(num_tokens, 0) if static_vectors is None else static_vectors.float()
        )
        # In a list, for it is no part of the encoder: an objective that needs it has it among its own parameters, and
        # where none does, none may lack a gradient.
        self._lm_head: list[LMHead] = [lm_head] if lm_head is not None else []

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
            model = build_model(transformers_config(config, len(tokenizer), tokenizer.special))
            if spectral is not None:
                start_from_spectral(model, torch.from_numpy(spectral))
        set_attention(model, config.attn_implementation)
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
            "lm_head": self.lm_head,
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
            model = build_model(self.model.config)
        variants = {"last": PoolingConfig(token_weights=False)}
        return type(self)(model, self.tokenizer, variants=variants, max_length=self.max_length).eval()

    def collate(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What `forward` takes, of texts: `input_ids` and `attention_mask`, both (B, T)."""
        return self.padded([ids[: self.max_length - 2] for ids in self.tokenizer.encode(texts)])

    def padded(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """What `forward` takes, of texts as ids without start and end."""
        special, longest = self.tokenizer.special, max(map(len, ids)) + 2
        rows = [[special.bos, *text, special.eos] + [special.pad] * (longest - 2 - len(text)) for text in ids]
        input_ids = torch.tensor(rows, device=self.token_weights.device)
        lengths = torch.tensor([len(text) + 2 for text in ids], device=input_ids.device)
        mask = torch.arange(longest, device=input_ids.device) < lengths[:, None]
        return {"input_ids": input_ids, "attention_mask": mask.long()}

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self.model.config.hidden_size

    @property
    def token_embeddings(self) -> Tensor:
        """(V, E) vectors of the tokens, which are the output weights of masked modelling too."""
        return self.model.get_input_embeddings().weight

    @property
    def embedding_size(self) -> int:
        """E: the width of the token embeddings."""
        return self.token_embeddings.shape[1]

    @property
    def vocab_size(self) -> int:
        """V: their number. Other people's checkpoints may have more than their tokenizer has tokens."""
        return len(self.token_embeddings)

    @property
    def first_position(self) -> int:
        """The position id of a text's first token."""
        return first_position(self.model)

    @property
    def is_causal(self) -> bool:
        """Whether a token sees those before it only."""
        return bool(getattr(self.model.config, "is_decoder", False))

    def set_causal(self, causal: bool = True) -> None:
        """From now on a token sees those before it only, or all again; once saved, plain transformers see it so too.

        Args:
            causal: Whether it is blind to what follows.

        Raises:
            ConfigError: An architecture that cannot be.
        """
        if causal == self.is_causal:
            return
        if not any(hasattr(part, "is_decoder") for part in self.model.modules()):
            raise ConfigError(
                f"encoder.architecture: {self.model.config.model_type} looks both ways; take bert, xlm-roberta or "
                "electra for an objective that reads from the left"
            )
        self.model.config.is_decoder, self.model.config.use_cache = causal, False
        for part in self.model.modules():
            for name in ("is_decoder", "is_causal"):
                if hasattr(part, name):
                    setattr(part, name, causal)

    @property
    def lm_head(self) -> LMHead | None:
        """The head of masked modelling that came with it or was trained with it last."""
        return self._lm_head[0] if self._lm_head else None

    def take_lm_head(self) -> LMHead:
        """The head of masked modelling for an objective to train: as it came or was trained before, or a new one.

        The encoder keeps hold of it, so it is saved as the objective leaves it.
        """
        if not self._lm_head:
            self._lm_head.append(LMHead.like(self.model.config))
        return self._lm_head[0]

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
        """Hidden states of a batch.

        Args:
            batch: With `input_ids` and `attention_mask`, both (B, T), the latter also as (B, 1, T, T); packed ones as
                `toolkit.text.MaskedBatches` makes them.
        """
        others = attention_inputs(batch, self.model, causal=self.is_causal, first_position=self.first_position)
        output = self.model(input_ids=batch["input_ids"], output_hidden_states=True, **others)
        documents = batch.get("documents")
        if documents is None:
            return TextFeatures(output.hidden_states, batch["input_ids"])
        # Counting them on a GPU would make the CPU wait.
        num_documents = len(batch["languages"]) if "languages" in batch else int(documents.max()) + 1
        return TextFeatures(output.hidden_states, batch["input_ids"], documents, num_documents)

    def pooled(self, features: TextFeatures, pooling: PoolingConfig | None = None) -> Tensor:
        """(B, D), or as many rows as there are packed texts: of each a weighted mean of each part, each scaled to norm
        1, side by side.

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
        return torch.cat([F.normalize(features.summed(part, weights_BT), dim=1) for part in parts], dim=1)

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
            features = self(self.padded([ids[row] for row in rows]))
            for name, pooling in poolings.items():
                embedded[name][rows] = self.pooled(features, pooling).float().cpu().numpy()
        self.train(was_training)
        return embedded

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes what `load_encoder`, `AutoModel` and `AutoTokenizer` open; with a head, `AutoModelForMaskedLM` too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config, tensors = deepcopy(self.model.config), self.model.state_dict() | self._pooler()
        config.architectures = [type(self.model).__name__]
        if self.lm_head is not None:
            name, head = self.lm_head.transformers_state(config)
            if not head:
                log.warning("a %s of transformers has no such head: that of masked modelling is not saved", name)
            else:
                config.architectures = [name]
                tensors = {f"{self.model.base_model_prefix}.{key}": tensor for key, tensor in tensors.items()} | head
        config.save_pretrained(folder)
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
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
            model, lm_head = _loaded(AutoConfig.from_pretrained(folder), load_file(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder}: is not a text encoder that fits: {' '.join(str(error).split())[:300]}"
            ) from None
        kept = {"max_length": spec["max_length"], "lm_head": lm_head, **tensors}
        return cls(model, load_tokenizer(folder), variants=variants, **kept).eval()

    def _pooler(self) -> dict[str, Tensor]:
        # Transformers would draw a missing one at random each time; this one hands the first token on.
        with torch.device("meta"):
            whole = AutoModel.from_config(self.model.config).state_dict()
        missing = whole.keys() - self.model.state_dict().keys()
        return {
            name: torch.eye(len(whole[name])) if whole[name].ndim == 2 else torch.zeros(len(whole[name]))
            for name in sorted(missing)
        }


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
        model = build_model(config)
    encoder = cls(model, tokenizer, variants=variants, **kept)
    encoder.load_state_dict(state)
    return encoder.train(training)


def _loaded(config: PretrainedConfig, tensors: dict[str, Tensor]) -> tuple[PreTrainedModel, LMHead | None]:
    """The model and, if the file has one, its head of masked modelling."""
    model, lm_head = build_model(config), None
    if head := head_state(tensors, config):
        lm_head = LMHead.like(config)
        lm_head.load_state_dict(head)
        prefix = f"{model.base_model_prefix}."
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    model.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("pooler.")})
    return model, lm_head
