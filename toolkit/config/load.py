"""From a YAML file and dotted overrides to a validated configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from toolkit.config.mistakes import describe, sections_in
from toolkit.config.section import Section
from toolkit.config.yaml import parse_yaml, read_yaml
from toolkit.errors import ConfigError

S = TypeVar("S", bound=Section)


def load(path: str | Path | None, schema: type[S], overrides: Sequence[str] = ()) -> S:
    """Reads, merges and validates.

    Args:
        path: The YAML file. Its key `extends` names one other file, relative to it, whose values come first.
            `None` starts from the defaults.
        schema: The recipe's `Config`.
        overrides: `key.path=value` each, the value in YAML; applied last.

    Raises:
        ConfigError: Every mistake at once, a line each, with path, nearest key and allowed range.
    """
    values = read_values(Path(path)) if path is not None else {}
    for override in overrides:
        apply_override(values, override)
    return validate(values, schema, str(path) if path is not None else "configuration")


def validate(values: dict[str, Any], schema: type[S], name: str) -> S:
    """`values` as a `schema`; `name` is where they came from, for the error message."""
    _name_defaults(values, schema)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*(f"{name}: {line}" for line in describe(error, schema, values))) from None


def _name_defaults(values: dict[str, Any], schema: type[Section]) -> None:
    """Among sections a name alone is a choice of that one, and values without a `name` are meant for the default."""
    for key, field in schema.model_fields.items():
        if field.discriminator == "name" and isinstance(values.get(key), str):
            values[key] = {"name": values[key]}
        below = values.get(key)
        if not isinstance(below, dict):
            continue
        if field.discriminator and isinstance(field.default, Section):
            below.setdefault("name", field.default.name)  # type: ignore[attr-defined]
        for section in sections_in(field.annotation):
            _name_defaults(below, section)


def read_values(path: Path) -> dict[str, Any]:
    """The raw values of `path`, merged over those of the file that it extends."""
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: must be the name of one file, not {base!r}")
    parent = path.parent / base
    if not parent.is_file():
        raise ConfigError(f"{path}: extends: {parent} does not exist; the name is relative to the file that extends")
    parent_values = read_yaml(parent)
    if "extends" in parent_values:
        raise ConfigError(f"{path}: extends: {parent} itself extends another file; only one level is allowed")
    return merge(parent_values, values)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` on top, mappings merged key by key, all else replaced."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def apply_override(values: dict[str, Any], override: str) -> None:
    """Puts `key.path=value` into `values`, in place.

    Raises:
        ConfigError: Not of that form, or the path leads through something that is not a section.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: write it as key.path=value")
    *sections, last = key.split(".")
    node = values
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
    node[last] = parse_yaml(text, f"override {override!r}")
