"""Public models as rows of a study: a function, stored embeddings, a checkpoint, or a 2D encoder on slices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from toolkit.cards import load_public_model
from toolkit.config import Section
from toolkit.console import log
from toolkit.encoders import FUNCTION
from toolkit.encoders.checkpoints import Init, initialise
from toolkit.encoders.external import FunctionEncoder, StoredEmbeddings, own_digest
from toolkit.encoders.named import named_function
from toolkit.encoders.networks import config_union
from toolkit.encoders.networks.small_resnet import SmallResNetConfig
from toolkit.encoders.scan import ScanEncoder
from toolkit.encoders.slices import SliceEncoder
from toolkit.errors import ConfigError
from toolkit.finetune.attention import SliceAttention
from toolkit.finetune.frozen import FrozenEncoder
from toolkit.finetune.methods import Classifier, FeatureMethod
from toolkit.finetune.probe import Features, Probe, scalings
from toolkit.finetune.task import Task
from toolkit.scans import Preprocessing

KINDS = ("function", "embeddings", "init", "slices")


class External(Section):
    """One public model. Give one of function, embeddings, init and slices."""

    function: str | None = None
    """`module:function`, given patches or texts, giving an array (N, D); the module may lie in the working folder."""
    weights: tuple[Path, ...] | None = None
    """With a function: the files and folders that it reads, so that other contents give another row; `[]` for none. Not
    needed where the function has an attribute `digest`, a text that changes with its weights."""
    embeddings: Path | None = None
    """A Parquet file with the columns `id` and `embedding`, of samples that `write_samples` wrote."""
    init: Init | None = None
    """A file of weights for the network `encoder`."""
    encoder: config_union() = SmallResNetConfig()  # type: ignore[valid-type]
    """With `init`: the network."""
    slices: str | None = None
    """A 2D encoder: a folder that transformers' AutoModel opens, or `module:function` on images (M, C, H, W)."""
    max_slices: int = Field(16, gt=0)
    """With `slices`: of a patch with more, so many are taken, evenly spaced."""
    pooling: Literal["attention", "mean"] = "attention"
    """With `slices`: what makes one vector of them; attention is learnt from the few labels."""
    card: str | None = None
    """Its card in `model_cards` (`fewlabel ls public`), whose licence and training data go into the provenance."""
    pretrained_on: str | None = None
    """Without a card: what it was pretrained on, in words. Nothing can check that no test subject was among it."""

    @property
    def called(self) -> str | None:
        """The function that embeds, `module:function`; None for all others."""
        return self.function or (self.slices if self.slices and FUNCTION.fullmatch(self.slices) else None)

    @property
    def saved_encoder(self) -> Path | None:
        """The folder of an encoder that fewlabel saved, for the guard against leakage; None for all others."""
        return self.init.saved_encoder if self.init else None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}")
        if self.weights is not None and not self.called:
            raise ValueError(f"weights: name what a function reads; {given[0]} names its own")
        return self


@dataclass(frozen=True)
class FrozenFunction:
    """A probe on embeddings that come from elsewhere.

    Attributes:
        encoder: What gives them.
        pretraining: The model's name in the tables.
    """

    encoder: FunctionEncoder | StoredEmbeddings
    pretraining: str
    name: str = "external"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Of the function or the embeddings."""
        return self.encoder.digest

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """The embeddings, centred and standardised."""
        return scalings({"": (self.encoder.embed(task.pool), self.encoder.embed(task.test))})


@dataclass(frozen=True)
class FrozenSlices:
    """A frozen 2D encoder on the slices of a patch.

    Attributes:
        encoder: What embeds a slice.
        spacing_mm: Of the patches; slices are taken across the thickest voxels.
        pretraining: The model's name in the tables.
        classifier: `SliceAttention`, or a `Probe` on the mean over slices.
    """

    encoder: SliceEncoder
    spacing_mm: tuple[float, float, float]
    pretraining: str
    classifier: Classifier
    name: str = "external"

    def fingerprint(self) -> str:
        """Of the weights, and of which slices are taken."""
        return f"{self.encoder.digest} {self.encoder.max_slices} {self.spacing_mm} {type(self.classifier).__name__}"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Slices (N, S, D), less the pool's mean and with means over slices of mean square norm 1; or those means."""
        pool, test = (self.encoder.embed(part, self.spacing_mm) for part in (task.pool, task.test))
        if isinstance(self.classifier, Probe):
            return scalings({"": (pool.mean(axis=1), test.mean(axis=1))})
        centre = pool.mean(axis=(0, 1), dtype=np.float64)
        scale = np.sqrt(((pool.mean(axis=1) - centre) ** 2).sum(axis=1).mean()) or 1.0
        return {"": (((pool - centre) / scale).astype(np.float32), ((test - centre) / scale).astype(np.float32))}


def external_methods(
    models: Mapping[str, External], preprocessing: Preprocessing | None
) -> tuple[list[FeatureMethod], dict[str, str]]:
    """Opens public models for a study.

    Args:
        models: By the name that they get in the column `pretraining`.
        preprocessing: Of the study's patches; None for texts.

    Returns:
        The methods, and what each one was, for the provenance: kind and digest, and what it was pretrained on.

    Raises:
        ConfigError: No such function, or a model of scans in a study of texts.
        CheckpointError: Weights do not fit.
        DataError: Embeddings cannot be read.
        CardError: No such card.
    """
    methods: list[FeatureMethod] = []
    record = {}
    for name, model in models.items():
        try:
            method, what = _opened(name, model, preprocessing)
        except ConfigError as error:
            raise ConfigError(*(f"external.{name}: {line}" for line in error.mistakes)) from None
        called = model.called
        if called and model.weights is None and not own_digest(named_function(called)[0], called):
            log.warning(
                "external.%s: its weights are not named, so the row of older ones may be taken for theirs; write the "
                "files that the function reads under `weights`, [] for none",
                name,
            )
        methods.append(method)
        card = load_public_model(model.card) if model.card else None
        seen = model.pretrained_on or (card.trained_on if card else "unknown")
        licence = ", ".join(card.license) if card else "unknown"
        record[f"external {name}"] = f"{what}; licence: {licence}; pretrained on: {seen}"
        if model.saved_encoder is None:  # else its own record tells
            log.warning(
                "external.%s: pretrained on: %s; nothing can tell whether a test subject was among it", name, seen
            )
    return methods, record


def _opened(name: str, model: External, preprocessing: Preprocessing | None) -> tuple[FeatureMethod, str]:
    if model.function:
        function = FunctionEncoder(model.function, model.weights or ())
        return FrozenFunction(function, name), f"function {model.function} {function.digest}"
    if model.embeddings:
        stored = StoredEmbeddings(model.embeddings)
        return FrozenFunction(stored, name), f"embeddings {stored.digest}"
    if preprocessing is None:
        raise ConfigError("init and slices are for scans; give function or embeddings for texts")
    if model.init:
        encoder = ScanEncoder(model.encoder, preprocessing).untrained(0)
        loaded = initialise(encoder, model.init)
        return FrozenEncoder(encoder, name, name="external"), f"weights of {loaded}"
    assert model.slices is not None
    slices = SliceEncoder(model.slices, model.max_slices, model.weights or ())
    classifier = SliceAttention() if model.pooling == "attention" else Probe()
    method = FrozenSlices(slices, preprocessing.spacing_mm, name, classifier)
    return method, f"slices {slices.digest}, {model.pooling}"
