"""Other people's weights, from a local file, through explicit maps of names.

    encoder: {name: resnet, depth: 18, shortcut: A, dilated: true}
    init: {path: resnet_18_23dataset.pth, origin: medicalnet}

One file an origin: where its checkpoints hold the weights, and what its names are in our networks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from toolkit.config import Section
from toolkit.console import log
from toolkit.encoders.checkpoints.fewlabel import FEWLABEL
from toolkit.encoders.checkpoints.files import file_digest, read_checkpoint
from toolkit.encoders.checkpoints.medicalnet import MEDICALNET
from toolkit.encoders.checkpoints.monai import MONAI
from toolkit.encoders.checkpoints.nnssl import NNSSL
from toolkit.encoders.checkpoints.origin import ANY_NETWORK, KeyMap, Origin
from toolkit.encoders.checkpoints.swin_unetr_ssl import SWIN_UNETR_SSL
from toolkit.encoders.weights import KeyReport, load_weights
from toolkit.errors import ConfigError

if TYPE_CHECKING:
    from toolkit.encoders.scan import ScanEncoder

OriginName = Literal["fewlabel", "medicalnet", "monai", "nnssl", "swin_unetr_ssl"]
ORIGINS: dict[str, Origin] = {origin.name: origin for origin in (FEWLABEL, MEDICALNET, MONAI, NNSSL, SWIN_UNETR_SSL)}
assert tuple(ORIGINS) == get_args(OriginName)


class Init(Section):
    """Weights to start from."""

    path: Path
    """The file; with origin fewlabel also the folder of a saved encoder."""
    origin: OriginName
    """Whose it is, which says what its names become; `toolkit/encoders/checkpoints` has a file for each."""
    strict: bool = True
    """Refuse a file that lacks a tensor of the network, has one more, or one of another shape. False: load what fits
    and log the rest."""
    repeat_stem: bool = False
    """Where the file's first kernel sees one channel and the network has several: repeat it and divide by their number,
    so that equal channels give what one gave (as nnU-Net does)."""

    @property
    def file(self) -> Path:
        """The file itself."""
        return self.path / "model.safetensors" if self.path.is_dir() else self.path

    @property
    def saved_encoder(self) -> Path | None:
        """The folder of an encoder that fewlabel saved, which says what its pretraining saw; None for other files."""
        return self.file.parent if self.origin == "fewlabel" else None


@dataclass(frozen=True)
class Loaded:
    """What was loaded into a network, and from what.

    Attributes:
        init: What was asked for.
        report: Tensors that fitted, and those that did not.
        left_out: The file's names of heads and decoders, which an encoder has no place for.
        digest: SHA-256 of the file.
    """

    init: Init
    report: KeyReport
    left_out: tuple[str, ...]
    digest: str

    @property
    def seen(self) -> dict[str, Any]:
        """For `splits.record_seen`: the encoder whose record says what the weights saw, or that nothing says it."""
        folder = self.init.saved_encoder
        return {"before": folder} if folder else {"unknown": f"weights of {self}"}

    def __str__(self) -> str:
        return f"{self.init.origin} sha256:{self.digest}"


def initialise(encoder: "ScanEncoder", init: Init) -> Loaded:
    """Copies the weights that `init` names into an encoder, in place.

    Args:
        encoder: Its network is one that the origin has a map for.
        init: The file.

    Raises:
        ConfigError: The origin has no weights for such a network, or those of one channel for several.
        CheckpointError: The file cannot be read, is of another origin or does not fit; the message counts the tensors
            that are missing, unexpected and of another shape.
    """
    keys, path = key_map(init.origin, encoder.config.name), init.file
    weights, left_out = keys.translate(ORIGINS[init.origin].read(read_checkpoint(path), path))
    if repeated := _repeated(weights, encoder.network, keys):
        if init.strict and not init.repeat_stem:
            raise ConfigError(
                f"{path}: made for one channel ({', '.join(repeated)}), and encoder.in_channels is "
                f"{encoder.config.in_channels}; set init.repeat_stem: true, which gives each channel its share of the "
                "kernel, or in_channels: 1"
            )
        if init.repeat_stem:
            weights |= repeated
    report = load_weights(encoder.network, weights, str(path), strict=init.strict)
    loaded = Loaded(init, report, tuple(left_out), file_digest(path))
    log.info("init: %d tensors of %s, %d of its heads left out", len(report.matched), loaded, len(left_out))
    return loaded


def key_map(origin: str, network: str) -> KeyMap:
    """What an origin's names become in a network of ours.

    Raises:
        ConfigError: The origin has no weights for it.
    """
    maps = ORIGINS[origin].maps
    if not maps.keys() & {network, ANY_NETWORK}:
        raise ConfigError(
            f"init.origin: {origin} has weights for {', '.join(sorted(maps))}, not for {network}; change encoder.name"
        )
    return maps.get(network) or maps[ANY_NETWORK]


def _repeated(weights: dict[str, Tensor], network: nn.Module, keys: KeyMap) -> dict[str, Tensor]:
    """Kernels of the file that see one channel where the network has several, repeated."""
    own, repeated = network.state_dict(), {}
    for name in keys.stem:
        if name in weights and name in own and weights[name].shape[1] == 1 < (channels := own[name].shape[1]):
            repeated[name] = weights[name].repeat_interleave(channels, dim=1) / channels
    return repeated


__all__ = ["ORIGINS", "Init", "Loaded", "Origin", "initialise", "key_map"]
