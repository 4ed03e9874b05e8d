"""Reading a file of weights without running what may be in it."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import CheckpointError

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and `torch.compile` put in front of every name."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a `.safetensors` file or of one that `torch.save` wrote, on the CPU.

    Raises:
        CheckpointError: No such file, a damaged one, or one that holds other objects than tensors, numbers, texts and
            their containers: unpickling those could run anything.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line), "not a file of torch.save")
        raise CheckpointError(
            f"{path}: holds more than tensors, or is damaged ({reason.strip()}); nothing of it was run. If you trust "
            "its source, save its state dict alone as .safetensors and name that file"
        ) from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: cannot be read ({reason}); name a file of weights") from None
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path}: holds a {type(contents).__name__} where a state dict was expected")
    return contents


def state_dict_in(contents: Mapping[str, Any], places: tuple[str, ...], path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint: under the first of `places` that is there, or the checkpoint itself.

    Args:
        contents: What `read_checkpoint` gave.
        places: Keys that may hold it.
        path: For the error.

    Returns:
        Tensors by name, without the prefixes of wrappers.

    Raises:
        CheckpointError: There is none.
    """
    state = next((contents[place] for place in places if isinstance(contents.get(place), Mapping)), contents)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(map(str, list(contents)[:8])) or "nothing"
        looked = ", ".join(places)
        raise CheckpointError(
            f"{path}: no state dict under {looked} or at the top (it holds {found}); is it of another origin?"
        )
    while prefix := next((wrapper for wrapper in WRAPPERS if all(name.startswith(wrapper) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
