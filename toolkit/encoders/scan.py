"""The scan encoder: a small 3D ResNet and the preprocessing that its input needs, in one saved folder."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import count
from math import gcd
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from toolkit.config import Section, validate
from toolkit.console import log, track
from toolkit.encoders.sharing import share_weights
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.scans import Preprocessing, preprocess, read_volume, rescale, sliding_patches
from toolkit.scans.preprocessing import intensity_range, is_hounsfield

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
FORMAT = "scan-encoder-1"


class ScanEncoderConfig(Section):
    """Shape of the network."""

    in_channels: int = Field(1, gt=0)
    """Channels of a scan."""
    patch_size: int = Field(24, ge=8)
    """Voxels along each side of the patches it is trained on; it accepts others too."""
    width: int = Field(16, gt=0)
    """Channels of the first stage; each later one has twice as many."""
    blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Residual blocks of each of the four stages."""
    stem_kernel: int = Field(5, ge=1)
    """Kernel of the first convolution."""
    stem_stride: int = Field(3, ge=1)
    """Stride of the first convolution. 2 sees finer detail at about three times the cost."""
    pooled_stages: tuple[int, ...] = (4,)
    """Stages (1 to 4) whose spatial means make up the embedding."""
    norm: Literal["batch", "group", "instance"] = "batch"
    """Group norm (Wu & He 2018, arXiv:1803.08494) does not depend on the batch, so gradient caching can use it; 8
    groups, fewer in thin stages. Instance norm is one group a channel."""

    @property
    def min_side(self) -> int:
        """Voxels that a patch's sides need."""
        return 8 if self.norm != "instance" else next(side for side in count(8) if self._last_side(side) > 1)

    @model_validator(mode="after")
    def _leaves_something(self) -> "ScanEncoderConfig":
        if self.patch_size < self.min_side:  # only for instance norm: the field's own limit is the other norms'
            raise ValueError(
                f"norm: instance leaves nothing of a last stage of one voxel; give patch_size from {self.min_side}, or "
                "norm: group"
            )
        return self

    def _last_side(self, side: int) -> int:
        side = (side + self.stem_kernel // 2 * 2 - self.stem_kernel) // self.stem_stride + 1
        for _ in range(3):
            side = (side - 1) // 2 + 1
        return side


class ScanEncoder(nn.Module):
    """MONAI's ResNet of basic blocks without max pooling (He et al. 2015, arXiv:1512.03385), in 3D.

    Args:
        config: Shape of the network.
        preprocessing: How raw scans become its input; saved with the weights.

    Attributes:
        embed_dim: Length of an embedding.
        spacing_mm: Voxel size that `embed` expects.
    """

    def __init__(self, config: ScanEncoderConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.config = config
        self.preprocessing = preprocessing
        widths = [config.width * 2**stage for stage in range(4)]
        self.network = ResNet(
            block="basic",
            layers=list(config.blocks),
            block_inplanes=widths,
            n_input_channels=config.in_channels,
            conv1_t_size=config.stem_kernel,
            conv1_t_stride=config.stem_stride,
            no_max_pool=True,
            feed_forward=False,
        ).to(memory_format=torch.channels_last_3d)  # a fifth faster on a CPU
        if config.norm != "batch":
            _replace_batch_norms(self.network, config.norm)
        self._checkpointing = False
        self.embed_dim = sum(widths[stage - 1] for stage in config.pooled_stages)

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
        self._checkpointing = enabled

    def forward(self, patches_BCIJK: Tensor) -> list[Tensor]:
        """Feature maps of the four stages, fine to coarse, each (B, width * 2**stage, i, j, k)."""
        net = self.network
        x = net.act(net.bn1(net.conv1(patches_BCIJK.to(memory_format=torch.channels_last_3d))))
        features = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            # oneDNN's bfloat16 weight gradient of a 3^3 kernel over 2^3 voxels reads memory that nobody wrote
            # (torch 2.13, CPU). Stages that come down to so few voxels run in float32, which costs nothing.
            small = x.device.type == "cpu" and min(x.shape[2:]) <= 4
            with torch.autocast(x.device.type, enabled=False) if small else nullcontext():
                x = self._through(stage, x.to(torch.promote_types(x.dtype, torch.float32)) if small else x)
            features.append(x)
        return features

    def _through(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self._checkpointing and self.training and torch.is_grad_enabled():
            return _checkpointed(stage, x)
        return stage(x)

    def pooled(self, features: list[Tensor]) -> Tensor:
        """Spatial means of the pooled stages side by side, (B, embed_dim)."""
        return torch.cat([features[stage - 1].mean(dim=(2, 3, 4)) for stage in self.config.pooled_stages], dim=1)

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
        if x.ndim != 5 or x.shape[1] != self.config.in_channels or min(x.shape[2:]) < self.config.min_side:
            raise DataError(
                f"patches of shape {x.shape}; expected (N, {self.config.in_channels}, I, J, K), "
                f"sides from {self.config.min_side}"
            )
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
            config = validate(saved.get("encoder", {}), ScanEncoderConfig, f"{folder / CONFIG_FILE}: encoder")
            spec = validate(saved.get("preprocessing", {}), Preprocessing, f"{folder / CONFIG_FILE}: preprocessing")
        except ConfigError as error:
            raise CheckpointError("; ".join(error.mistakes)) from error
        encoder = cls(config, spec)
        encoder._load(weights, folder / WEIGHTS_FILE, strict)
        return encoder.eval()

    def _load(self, weights: dict[str, Tensor], path: Path, strict: bool) -> None:
        own = self.state_dict()
        problems = {
            "missing": sorted(own.keys() - weights.keys()),
            "unexpected": sorted(weights.keys() - own.keys()),
            "of another shape": sorted(k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape),
        }
        found = "; ".join(f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in problems.items() if keys)
        if found and strict:
            raise CheckpointError(f"{path}: keys {found}; the weights belong to another network")
        if found:
            log.warning("%s: keys %s; the others were loaded", path, found)
        unfit = {*problems["unexpected"], *problems["of another shape"]}
        self.load_state_dict({k: v for k, v in weights.items() if k not in unfit}, strict=False)

    def _embed_scan(self, path: str | Path, batch_size: int) -> np.ndarray:
        volume = preprocess(read_volume(path), self.preprocessing)
        patches = sliding_patches(volume.array, self.config.patch_size, self.config.patch_size // 2)
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


def _replace_batch_norms(network: nn.Module, norm: str) -> None:
    """Puts another norm in the place of each batch norm: MONAI's own argument reaches only the first one."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                channels = layer.num_features
                # Groups of at least two channels: of one channel over one voxel a norm leaves nothing.
                groups = channels if norm == "instance" else max(1, gcd(16, channels) // 2)
                setattr(parent, name, nn.GroupNorm(groups, channels))


@torch.compiler.disable(recursive=False)  # the compiler takes `context_fn` for something else, and gradients fail
def _checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(stage, x, use_reentrant=False, context_fn=partial(_recomputing, stage))


def _recomputing(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a stage's first computation and of its second."""
    return nullcontext(), _still_statistics(stage)


@contextmanager
def _still_statistics(stage: nn.Module) -> Iterator[None]:
    """Batch norms see the same batch a second time, which must not count twice: it goes into copies, then dropped."""
    norms = [layer for layer in stage.modules() if isinstance(layer, _BatchNorm)]
    kept = [(layer, name, buffer) for layer in norms for name, buffer in layer.named_buffers(recurse=False)]
    for layer, name, buffer in kept:
        setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, name, buffer in kept:
            setattr(layer, name, buffer)
