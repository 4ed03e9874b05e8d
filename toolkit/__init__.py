"""fewlabel: self-supervised learning for 3D medical scans and multilingual text, and proof of the labels it saves."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.encoders import load_encoder as load_encoder

__version__ = "0.1.0"

# Threads that wait must sleep, not spin: beside one other busy process spinning made a training step three to four
# times slower. It counts only before PyTorch is loaded, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_LAZY = {"load_encoder": "toolkit.encoders"}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
