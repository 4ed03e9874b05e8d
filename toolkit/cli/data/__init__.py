"""`fewlabel data`: from what a card describes or a hospital exports to what a run reads. One file a command."""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(iter_modules(__path__), key=lambda module: module.name != "app"):
    import_module(f"{__name__}.{_module.name}")
