"""A function by its name, `module:function`, with a digest of the very code that it runs."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from toolkit.encoders.checkpoints.files import file_digest
from toolkit.errors import ConfigError


class Code(NamedTuple):
    """What a module runs."""

    module: ModuleType
    spec: ModuleSpec | None
    """The module's when it ran; a reload puts another one in its place."""
    digest: str
    """Of the source; empty where there is none."""
    reads: tuple[str, ...] = ()
    """Digests of the files that it may have read when it ran."""

    @property
    def is_current(self) -> bool:
        """Whether the module has not been reloaded since."""
        return self.module.__spec__ is self.spec


_RUNNING: dict[str, Code] = {}
"""By a module's name, what was opened last."""


def named_function(name: str, reads: Sequence[str] = ()) -> tuple[Callable[[Any], Any], Code]:
    """The function that `module:function` names, as its file has it now, and what its module runs.

    A module that is a file is run apart from anybody's import of it, and anew where the file has changed. (An import
    takes what is in `sys.modules`, and bytecode of another content that was written in the same second.) What a
    program sets in its own import of the module is not seen.

    Args:
        name: The working folder is looked through last.
        reads: Digests of the files that the module reads: with others it runs anew, too.

    Raises:
        ConfigError: There is none, or a package or a program was changed since it was imported.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name:
        raise ConfigError(f"{name!r}: name a function as module:function")
    here = str(Path.cwd())
    sys.path.append(here)  # last, so that a file of the working folder hides no package
    try:
        code = _running(module_name, tuple(reads))
    except ImportError as error:
        raise ConfigError(f"{name}: {error}; put {module_name}.py into the working folder, or install it") from None
    finally:
        sys.path.remove(here)
    function = getattr(code.module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(code.module).items() if callable(value) and not key.startswith("_")]
        has = ", ".join([*sorted(known)[:3], *(["..."] if len(known) > 3 else [])]) or "none"
        raise ConfigError(f"{name}: {module_name} has no function {attribute!r}; it has {has}")
    return function, code


def _running(name: str, reads: tuple[str, ...]) -> Code:
    is_imported = name in sys.modules
    spec = getattr(sys.modules[name], "__spec__", None) if is_imported else find_spec(name)
    if spec is None and not is_imported:
        raise ModuleNotFoundError(f"No module named {name!r}")
    if spec is None or type(spec.loader) is not SourceFileLoader or spec.submodule_search_locations is not None:
        code = _imported(name)
    else:
        code = _run(name, str(spec.origin), reads)
    _RUNNING[name] = code
    return code


def _run(name: str, path: str, reads: tuple[str, ...]) -> Code:
    """A file's code in a module of its own."""
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: {path}: {error.strerror}; put it back, or begin a new process") from None
    spec = spec_from_file_location(name, path)
    assert spec and isinstance(spec.loader, SourceFileLoader)
    found = Code(module_from_spec(spec), spec, hashlib.sha256(source).hexdigest(), reads)
    known = _RUNNING.get(name)
    if known and known.is_current and known.module.__file__ == path and known[2:] == found[2:]:
        return known
    imported = sys.modules.get(name)
    sys.modules[name] = found.module  # dataclasses and pickles look there
    try:
        exec(spec.loader.source_to_code(source, path), vars(found.module))
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        if imported is not None:
            sys.modules[name] = imported  # whoever imported it may want to reload it
    package, _, last = name.rpartition(".")
    if package and imported is None:
        setattr(sys.modules[package], last, found.module)  # as an import does
    return found


def _imported(name: str) -> Code:
    """A package, a program or a compiled module: it cannot run a second time, so one that was changed is refused."""
    module, known = importlib.import_module(name), _RUNNING.get(name)
    path = inspect.getsourcefile(module) if hasattr(module, "__file__") else None
    digest = file_digest(path) if path else ""
    if known and known.module is module and known.is_current and known.digest != digest:
        raise ConfigError(f"{name}: {path} was changed since it was imported; begin a new process")
    return Code(module, module.__spec__, digest)
