"""Trained checkpoints to go on from: fewlabel's own, and any masked model or encoder that transformers opens.

    start_from: {path: FacebookAI/xlm-roberta-base, revision: COMMIT}

Nothing that came with a checkpoint is run: weights are safetensors, or tensors alone out of torch's own format.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from toolkit.config import Section
from toolkit.console import log
from toolkit.encoders import encoder_digest
from toolkit.encoders.text.architecture import TextEncoderConfig, set_attention
from toolkit.encoders.text.encoder import POOLING, TextEncoder
from toolkit.encoders.text.foreign import (
    MAX_LENGTH,
    checkpoint_files,
    checkpoint_folder,
    num_positions,
    open_model,
)
from toolkit.encoders.text.pooling import PoolingConfig
from toolkit.encoders.text.vocabulary import VocabularyReport, replace_vocabulary
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.splits import refuse_seen
from toolkit.text.tokenizer import TextTokenizer, load_foreign_tokenizer

ADAPTABLE = frozenset({"max_length", "attn_implementation"})
"""What a configuration says of an encoder that is there already."""


class StartFrom(Section):
    """A trained checkpoint to go on from, in place of random weights."""

    path: str
    """Folder of an encoder, fewlabel's or any masked model that transformers opens; or its name on the Hugging Face
    hub."""
    revision: str | None = None
    """On the hub: a commit, so that the weights stay what they were."""
    vocabulary: Literal["keep", "extend", "replace"] = "keep"
    """keep: the checkpoint's own tokenizer. extend: pieces that the corpus would have are added to it. replace: a
    tokenizer of the corpus alone. Vectors of new pieces are mixed of those of like pieces (FOCUS)."""

    def folder(self) -> Path:
        """Where the checkpoint lies; fetches it from the hub where it is not there yet."""
        return checkpoint_folder(self.path, self.revision)

    def digest(self) -> str:
        """Of what an encoder is opened from; whatever else lies beside it does not count."""
        return encoder_digest(self.folder(), checkpoint_files(self.folder()))

    def refuse(self, encoder: TextEncoderConfig) -> None:
        """Raises ValueError where the section `encoder` says what the checkpoint has settled; for validators."""
        settled = sorted(encoder.model_fields_set - ADAPTABLE)
        if settled:
            raise ValueError(
                f"encoder.{settled[0]}: is the checkpoint's where start_from is given; leave out {', '.join(settled)}"
            )


@dataclass(frozen=True)
class Started:
    """A checkpoint as it was opened.

    Attributes:
        start: What was asked for.
        folder: Where it lies.
        digest: Of its files.
        encoder: As it came, with its own tokenizer.
    """

    start: StartFrom
    folder: Path
    digest: str
    encoder: TextEncoder

    @property
    def seen(self) -> dict[str, Any]:
        """For `splits.record_seen`: the encoder whose record says what the weights saw, or that nothing says it."""
        own = (self.folder / POOLING).is_file()
        return {"before": self.folder} if own else {"unknown": f"weights of {self}"}

    def refuse_seen(self, groups: Iterable[str], *, allow: bool = False) -> None:
        """Stops where its record says that it saw a held-out text; other people's have none, and are warned of.

        Args:
            groups: Of the held-out texts.
            allow: Only warn.

        Raises:
            DataError: It saw one, or is fewlabel's and has no record; and `allow` is false.
        """
        if not (self.folder / POOLING).is_file():
            log.warning("%s: somebody else's encoder: nothing can tell whether it saw the held-out texts", self)
            return
        try:
            refuse_seen(self.folder, groups, allow=allow)
        except DataError as error:
            raise DataError(f"start_from.path: {error}; or allow_held_out, to study the leak itself") from None

    def __str__(self) -> str:
        return f"{Path(self.start.path).name if Path(self.start.path).is_dir() else self.start.path} {self.digest}"

    def adapted(
        self,
        tokenizer: TextTokenizer,
        ids: Sequence[Sequence[int]],
        languages: Sequence[str] | np.ndarray,
        config: TextEncoderConfig,
        *,
        variants: Mapping[str, PoolingConfig] | None = None,
        token_weights: np.ndarray | None = None,
        spectral: np.ndarray | None = None,
        seed: int = 0,
    ) -> tuple[TextEncoder, VocabularyReport | None]:
        """The encoder with the tokenizer and the pooling of a new training.

        Args:
            tokenizer: Its own, or another: then vectors of new pieces are made (`replace_vocabulary`).
            ids: The corpus in this tokenizer's ids, without special tokens.
            languages: Of each text.
            config: Of this, `max_length` and `attn_implementation` count where they are given.
            variants: Poolings by name, the default first.
            token_weights: (V,) weight of each token in pooling.
            spectral: (V, S) for `static` poolings; the trained token embeddings stay as they are.
            seed: Of what is drawn for new pieces.

        Raises:
            ConfigError: More tokens a text than the checkpoint has positions for, or attention that does not go here.
        """
        encoder, report = self.encoder, None
        if tokenizer is not encoder.tokenizer:
            encoder, report = replace_vocabulary(encoder, tokenizer, ids, languages, seed=seed)
        max_length = config.max_length if "max_length" in config.model_fields_set else encoder.max_length
        if max_length > (most := num_positions(encoder.model)):
            raise ConfigError(
                f"encoder.max_length: {max_length} is more than the {most} positions of {self.start.path}; lower it"
            )
        set_attention(encoder.model, config.attn_implementation)
        adapted = TextEncoder(
            encoder.model,
            tokenizer,
            variants=variants or {"last": PoolingConfig()},
            max_length=max_length,
            token_weights=None if token_weights is None else torch.from_numpy(token_weights),
            static_vectors=None if spectral is None else torch.from_numpy(spectral),
            lm_head=encoder.lm_head,
        )
        return adapted, report


def start_from(start: StartFrom) -> Started:
    """Opens a checkpoint.

    Raises:
        FetchError: It cannot be fetched from the hub.
        CheckpointError: It is none that can be opened, or its weights do not fit.
    """
    folder = start.folder()
    return Started(start, folder, start.digest(), open_encoder(folder))


def open_encoder(path: str | Path, revision: str | None = None) -> TextEncoder:
    """Any text encoder, ready to embed.

    Args:
        path: Folder of an encoder that fewlabel saved, or of a masked model or encoder of transformers, or its name on
            the Hugging Face hub. Others' encoders pool the mean of their last layer.
        revision: On the hub: commit, tag or branch.

    Raises:
        FetchError: It cannot be fetched from the hub.
        CheckpointError: It is none that can be opened; tensors of the encoder are missing, of another shape, or not its
            own; or there are fewer token embeddings than tokens.
    """
    folder = checkpoint_folder(path, revision)
    if (folder / POOLING).is_file():
        return TextEncoder.from_pretrained(folder)
    model, lm_head = open_model(folder)
    tokenizer = load_foreign_tokenizer(folder)
    longest = min(num_positions(model), getattr(tokenizer.fast, "model_max_length", MAX_LENGTH), MAX_LENGTH)
    variants = {"last": PoolingConfig(token_weights=False)}
    try:
        encoder = TextEncoder(model, tokenizer, variants=variants, max_length=int(longest), lm_head=lm_head)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return encoder.eval()
