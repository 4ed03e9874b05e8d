"""The scan encoder: a network and the preprocessing that its input needs, in one saved folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toolkit.config import validate
from toolkit.console import track
from toolkit.encoders.networks import NETWORKS, NetworkConfig, build_network
from toolkit.encoders.networks.small_resnet import SmallResNetConfig
from toolkit.encoders.sharing import share_weights
from toolkit.encoders.weights import load_weights
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.scans import Preprocessing, preprocess, read_volume, rescale, sliding_patches
from toolkit.scans.preprocessing import intensity_range, is_hounsfield

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
FORMAT = "scan-encoder-1"
DEFAULT_NETWORK = "small_resnet"
"""Of encoders that were saved before there were others."""


ScanEncoderConfig = SmallResNetConfig
"""Of the network that a CPU can train; see `toolkit.encoders.networks` for all."""


def refuse_other_voxels(config: NetworkConfig, preprocessing: Preprocessing) -> None:
    """Raises a ConfigError where a network is made for voxels of another size than the preprocessing's."""
    voxel_mm = getattr(config, "voxel_mm", None)
    if voxel_mm and voxel_mm != preprocessing.spacing_mm:
        raise ConfigError(
            f"encoder.voxel_mm: {voxel_mm}, but preprocessing.spacing_mm: {preprocessing.spacing_mm}; give both "
            "the same, or leave voxel_mm empty"
        )


class ScanEncoder(nn.Module):
    """A network of any family, and the preprocessing that its input needs.

    Args:
        config: Which network, and its shape.
        preprocessing: How raw scans become its input; saved with the weights.

    Attributes:
        network: The network itself.
        family: What kind of network it is.
        channels: Of each map, fine to coarse.
        stride: Voxels of one cell of the coarsest map, along each axis.
        embed_dim: Length of an embedding.
        spacing_mm: Voxel size that `embed` expects.

    Raises:
        ConfigError: The network is made for voxels of another size than the preprocessing's.
    """

    def __init__(self, config: NetworkConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        refuse_other_voxels(config, preprocessing)
        self.config: Any = config
        self.preprocessing = preprocessing
        self.network = build_network(config)
        self.family, self.channels, self.stride = self.network.family, self.network.channels, self.network.stride
        self.embed_dim = self.network.embed_dim
        self._fitting: set[tuple[int, ...]] = set()  # shapes of a patch that were looked at

    def untrained(self, seed: int) -> Self:
        """A new encoder of the same shape with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return type(self)(self.config, self.preprocessing).eval()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between voxels along right, anterior and superior."""
        return self.preprocessing.spacing_mm

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Whether training forgets activations within stages and computes them again in the backward pass."""
        self.network.set_gradient_checkpointing(enabled)

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse, each (B, its channels, i, j, k).

        Raises:
            DataError: The patches have another number of channels, or sides that the network does not take.
        """
        self.refuse_shape(tuple(patches_BCIJK.shape))
        return self.network(patches_BCIJK)

    @torch.compiler.disable
    def refuse_shape(self, shape: tuple[int, ...]) -> None:
        """Raises DataError where patches (B, C, I, J, K) of this shape do not fit."""
        channels = self.config.in_channels
        if shape[1:] in self._fitting:
            return
        if len(shape) != 5 or shape[1] != channels or self.config.refusal(shape[2:]):
            raise DataError(f"patches of shape {shape}; expected (N, {channels}, I, J, K), {self.config.wanted}")
        self._fitting.add(shape[1:])

    def pooled(self, features: list[Tensor]) -> Tensor:
        """What becomes of maps as an embedding: spatial means, (B, embed_dim)."""
        return self.network.pooled(features)

    @torch.inference_mode()
    def embed(
        self,
        x: np.ndarray | Sequence[str | Path],
        batch_size: int = 64,
        intensity: tuple[float, float] | None = None,
        progress: str | None = None,
    ) -> np.ndarray:
        """Embeds raw patches or whole scans.

        Args:
            x: Patches (N, C, I, J, K) of raw intensities, axes towards right, anterior and superior, at
                `spacing_mm`; or paths of scans, each of which becomes the mean over the patches that slide
                over its foreground.
            batch_size: Patches at a time.
            intensity: Raw values that become 0 and 1, such as the percentiles of the whole scan; (0, 1) for
                patches that are normalised already. By default the window where the preprocessing takes the patch for
                CT, else the patch's own percentiles or deviations. Of no effect on paths.
            progress: What to write before a progress bar; no bar without.

        Returns:
            Embeddings (N, embed_dim), float32.

        Raises:
            DataError: The array has another shape or values that are not finite, or a scan cannot be read.
        """
        if isinstance(x, str | Path):
            raise DataError("embed takes a list of paths; put this one in brackets: embed([path])")
        if not isinstance(x, np.ndarray):
            scans = track(x, progress) if progress else x
            rows = [self._embed_scan(path, batch_size) for path in scans]
            return np.stack(rows) if rows else np.zeros((0, self.embed_dim), np.float32)
        self.refuse_shape(x.shape)
        was_training = self.training
        self.eval()
        starts = range(0, len(x), batch_size)
        out = np.empty((len(x), self.embed_dim), np.float32)
        for start in track(starts, progress) if progress else starts:
            part = np.asarray(x[start : start + batch_size], np.float32)
            if not np.isfinite(part).all():
                raise DataError(
                    f"patches {start} to {start + len(part) - 1}: values that are not finite; clean the scans"
                )
            batch = torch.from_numpy(self._normalised(part, intensity)).to(self._device)
            out[start : start + batch_size] = self.pooled(self(batch)).float().cpu().numpy()
        self.train(was_training)
        return out

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights (safetensors) and config.json, which holds the preprocessing too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS_FILE)
        saved = {
            "fewlabel": FORMAT,
            "encoder": self.config.model_dump(mode="json"),
            "preprocessing": self.preprocessing.model_dump(mode="json"),
        }
        (folder / CONFIG_FILE).write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
        share_weights(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, strict: bool = True) -> Self:
        """Opens what `save_pretrained` wrote.

        Args:
            folder: The saved encoder.
            strict: Refuse weights that do not fit exactly; otherwise load those that fit and log the others.

        Raises:
            CheckpointError: A file is missing or damaged, or keys are missing, unexpected or of another
                shape.
        """
        folder = Path(folder)
        try:
            saved = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{folder}: no saved scan encoder, or a damaged one ({reason}); save it again"
            ) from error
        if saved.get("fewlabel") != FORMAT:
            raise CheckpointError(
                f"{folder / CONFIG_FILE}: `fewlabel` is {saved.get('fewlabel')!r}, expected {FORMAT!r}"
            )
        try:
            shape = {"name": DEFAULT_NETWORK} | saved.get("encoder", {})
            config = validate(shape, NETWORKS.get(shape["name"]).Config, f"{folder / CONFIG_FILE}: encoder")
            spec = validate(saved.get("preprocessing", {}), Preprocessing, f"{folder / CONFIG_FILE}: preprocessing")
        except ConfigError as error:
            raise CheckpointError("; ".join(error.mistakes)) from error
        encoder = cls(config, spec)
        load_weights(encoder, weights, str(folder / WEIGHTS_FILE), strict=strict)
        return encoder.eval()

    def _embed_scan(self, path: str | Path, batch_size: int) -> np.ndarray:
        volume = preprocess(read_volume(path), self.preprocessing)
        sides = self.config.sides
        patches = sliding_patches(volume.array, sides, tuple(side // 2 for side in sides))
        return self.embed(patches, batch_size, intensity=(0.0, 1.0)).mean(axis=0)

    def _normalised(self, patches: np.ndarray, intensity: tuple[float, float] | None) -> np.ndarray:
        """Intensities to 0-1, as `preprocess` does, patch by patch where no range is given."""
        if intensity is not None:
            low, high = intensity
            if not high > low:
                raise DataError(f"intensity={intensity}: the second value must be above the first")
            return rescale(patches, low, high)
        out, spec = np.zeros_like(patches), self.preprocessing
        for patch, target in zip(
            patches.reshape(-1, *patches.shape[2:]), out.reshape(-1, *patches.shape[2:]), strict=True
        ):
            if is_hounsfield(patch, spec):
                target[:] = rescale(patch, *spec.window_hu)
                continue
            shown = patch > 0
            if spec.foreground == "all" or not shown.any():
                shown[:] = True
            low, high = intensity_range(patch, shown, spec)
            if high > low:  # a patch of one intensity shows nothing: it stays 0
                target[shown] = rescale(patch[shown], low, high)
        return out

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device
