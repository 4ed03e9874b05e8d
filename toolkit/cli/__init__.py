"""The command `fewlabel`. Torch is imported only by commands that need it, so that help is there at once."""

from toolkit.cli import browse, data, doctor, init, recipes
from toolkit.cli.app import app, main

__all__ = ["app", "browse", "data", "doctor", "init", "main", "recipes"]
