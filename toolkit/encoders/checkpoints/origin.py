"""An origin of weights: how its files are laid out, and what its names are in our networks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.encoders.checkpoints.files import state_dict_in

ANY_NETWORK = "*"


@dataclass(frozen=True)
class KeyMap:
    """Names of a file to names of one of our networks, in this order: prefix, heads, renames.

    Attributes:
        prefix: Where the file holds more than the encoder, the encoder's names begin with this. A file of the encoder
            alone may come without it.
        heads: Regular expressions, matched from a name's start: decoders and heads, which an encoder has no place for.
        renames: Regular expressions and what their matches become.
        stem: Kernels that see the scan's channels, by our names: those that `init.repeat_stem` may repeat.
    """

    prefix: str = ""
    heads: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    stem: tuple[str, ...] = ()

    def translate(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors by our names, and the names in the file of what was left out."""
        inside = [name for name in tensors if name.startswith(self.prefix)] or list(tensors)
        kept = [name for name in inside if not any(re.match(head, name) for head in self.heads)]
        ours = {}
        for name in kept:
            new = name.removeprefix(self.prefix)
            for pattern, replacement in self.renames:
                new = re.sub(pattern, replacement, new)
            ours[new] = tensors[name]
        return ours, sorted(tensors.keys() - set(kept))


def read_state_dict(contents: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict where most programs put it."""
    return state_dict_in(contents, ("state_dict", "model_state_dict", "model"), path)


@dataclass(frozen=True)
class Origin:
    """Files of one kind.

    Attributes:
        name: As in `init.origin`.
        maps: For each of our networks that its weights fit, by name or `ANY_NETWORK`, what its names become.
        read: From a checkpoint's contents and path to the tensors of the whole model.
    """

    name: str
    maps: Mapping[str, KeyMap]
    read: Callable[[Mapping[str, Any], Path], dict[str, Tensor]] = read_state_dict
