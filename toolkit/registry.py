"""Names to classes. A method registers itself where it is defined; outside packages use an entry point."""

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from toolkit.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """A `did you mean` clause for `name`, or the list of what is known when nothing is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"


class Registry(Generic[T]):
    """Classes of one kind by name.

    Args:
        kind: What the classes are, singular, for error messages ("objective").
        group: Entry-point group through which installed packages add their own.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._classes: dict[str, type[T]] = {}
        self._plugins_loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that files the class under `name`."""

        def add(cls: type[T]) -> type[T]:
            assert self._classes.get(name, cls).__qualname__ == cls.__qualname__, f"two {self.kind}s named {name!r}"
            self._classes[name] = cls
            return cls

        return add

    def get(self, name: str) -> type[T]:
        """The class called `name`.

        Raises:
            ConfigError: No such name; the message has the nearest one.
        """
        self._load_plugins()
        if name not in self._classes:
            raise ConfigError(f"no {self.kind} named {name!r}; {nearest(name, list(self._classes))}")
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._classes))

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for entry in entry_points(group=self.group):
            entry.load()
