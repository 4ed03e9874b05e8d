"""fewlabel: self-supervised learning for 3D medical scans and multilingual text, and proof of the labels it saves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.encoders import load_encoder as load_encoder

__version__ = "0.1.0"

_LAZY = {"load_encoder": "toolkit.encoders"}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
