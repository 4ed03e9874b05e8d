"""A frozen 2D encoder on the slices of a patch: a vision model of transformers, or any function on images."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from toolkit.console import track
from toolkit.encoders.checkpoints.files import file_digest
from toolkit.encoders.external import FunctionEncoder, checked_rows
from toolkit.errors import CheckpointError, DataError

BATCH_SIZE = 64
CLASS_TOKENS = ("cls_token", "class_embedding")
"""Names of the parameter that a model with a class token has for it."""
VERSION = "2"
"""Raise it when the same model would give other embeddings of the same patches; it is in every digest."""
GREY = 0.5
"""Mean and deviation of a model that comes without a preprocessor_config.json: intensities of -1 to 1."""


class SliceEncoder:
    """Slices across the axis of the thickest voxels, each embedded by itself.

    An image has the two other axes as columns and rows, the latter upside down, so that axial slices show the anterior
    at the top and the others the superior.

    Args:
        model: A folder that transformers' AutoModel opens, with its weights as safetensors; or `module:function`, a
            function of images (M, C, H, W), float32 of 0 to 1, that gives (M, D).
        max_slices: Of thicker patches so many are taken, evenly spaced.
        weights: Files that a function reads.

    Attributes:
        digest: Of the weights, or of the function as `FunctionEncoder` has it, and of how slices are made and pooled.

    Raises:
        CheckpointError: The folder holds no vision model, or lacks some of its weights.
        ConfigError: There is no such function.
    """

    def __init__(self, model: str, max_slices: int = 16, weights: Sequence[Path] = ()) -> None:
        self.name, self.max_slices = model, max_slices
        folder = Path(model)
        if folder.is_dir():
            self._embed: Callable[[np.ndarray], object] = VisionModel(folder)
            parts = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
            digest = " ".join(file_digest(path)[:16] for path in parts)
        else:
            self._embed = function = FunctionEncoder(model, weights)
            digest = function.digest
        self.digest = f"{VERSION} {digest}"

    def embed(self, patches_NCIJK: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Embeddings of each patch's slices.

        Args:
            patches_NCIJK: Intensities of 0 to 1, axes towards right, anterior and superior.
            spacing_mm: Millimetres between voxels along the three axes; of equally thick ones the last counts.

        Returns:
            (N, S, D), float32.

        Raises:
            DataError: The function gave another number of rows, or values that are not finite.
        """
        axis = max(range(3), key=lambda axis: (spacing_mm[axis], axis))
        stacks_NSCHW = np.moveaxis(patches_NCIJK, 2 + axis, 1).swapaxes(-1, -2)[..., ::-1, :]
        num_slices = stacks_NSCHW.shape[1]
        num_taken = min(num_slices, self.max_slices)
        chosen = ((np.arange(num_taken) + 0.5) * num_slices / num_taken).astype(int)  # middles of equal parts
        at_once, parts = max(1, BATCH_SIZE // len(chosen)), []
        for start in track(range(0, len(stacks_NSCHW), at_once), "embedding slices"):
            images = np.ascontiguousarray(stacks_NSCHW[start : start + at_once, chosen], np.float32)
            flat = images.reshape(-1, *images.shape[2:])
            parts.append(checked_rows(self._embed(flat), len(flat), self.name).reshape(*images.shape[:2], -1))
        return np.concatenate(parts)


class VisionModel:
    """A vision model of transformers from a local folder; neither torchvision nor the network is needed.

    Args:
        folder: `config.json`, weights as safetensors, and `preprocessor_config.json` if there is one.

    Raises:
        CheckpointError: No vision model, or one whose file lacks weights that its embeddings depend on.
    """

    def __init__(self, folder: Path) -> None:
        try:
            with _quiet():
                model, loading = AutoModel.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{folder}: no model that transformers opens ({reason})") from None
        missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
        if missing or not hasattr(model.config, "num_channels"):
            what = f"lacks {len(missing)} weights ({', '.join(missing[:3])})" if missing else "is no model of images"
            raise CheckpointError(f"{folder}: {what}; save a vision model there with save_pretrained")
        if hasattr(model.config, "mask_ratio"):
            model.config.mask_ratio = 0.0  # a masked autoencoder hides patches at random even when it embeds
        self.model: nn.Module = model.eval()
        self.has_class_token = any(name.rpartition(".")[2] in CLASS_TOKENS for name, _ in model.named_parameters())
        size = getattr(model.config, "image_size", 224)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        saved = folder / "preprocessor_config.json"
        spec = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
        self.mean, self.std = (
            torch.tensor(spec.get(key, [GREY])).view(1, -1, 1, 1) for key in ("image_mean", "image_std")
        )

    @torch.inference_mode()
    def __call__(self, images_MCHW: np.ndarray) -> Tensor:
        """(M, D): the class token, which comes first, or the mean over all tokens or over a convolutional map."""
        wanted, given = self.model.config.num_channels, images_MCHW.shape[1]
        if given not in (1, wanted):
            raise DataError(f"slices: images of {given} channels for a model of {wanted}; give one channel")
        x = torch.from_numpy(images_MCHW).expand(-1, wanted, -1, -1)
        x = nn.functional.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)
        out = self.model(pixel_values=(x - self.mean) / self.std).last_hidden_state
        if out.ndim == 4:
            return out.mean(dim=(2, 3))
        return out[:, 0] if self.has_class_token else out.mean(dim=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' table of missing weights: of those that matter an error tells, a pooler's do not."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
