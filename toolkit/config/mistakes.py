"""Pydantic's errors as lines that name the key, what is allowed, and the nearest key."""

import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from toolkit.config.section import Section
from toolkit.registry import nearest

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}


def describe(error: ValidationError, schema: type[Section], values: dict[str, Any]) -> list[str]:
    """One line a mistake, in the order of the file.

    Args:
        error: What `schema.model_validate(values)` raised.
        schema: The class that was validated.
        values: The raw values.
    """
    return [_line(detail, schema, values) for detail in error.errors(include_url=False)]


def _line(detail: Any, schema: type[Section], values: dict[str, Any]) -> str:
    location = detail["loc"]
    keys = list(_keys(location, schema, values, missing=detail["type"] == "missing"))
    path = ".".join(str(key) for key in keys) or "(top level)"
    owner = _owner(schema, location)
    field = owner.model_fields.get(str(keys[-1])) if owner and keys else None
    if detail["type"] == "extra_forbidden":
        known = list(owner.model_fields) if owner else []
        return f"{path}: unknown key; {nearest(str(keys[-1]), known)}"
    if detail["type"] == "missing":
        meaning = f" ({field.description})" if field and field.description else ""
        return f"{path}: missing; it is required{meaning}"
    if detail["type"] == "union_tag_invalid":
        tags = [tag.strip().strip("'") for tag in detail["ctx"]["expected_tags"].split(",")]
        return (
            f"{path}.{_discriminator(detail)}: no {detail['ctx']['tag']!r}; {nearest(str(detail['ctx']['tag']), tags)}"
        )
    if detail["type"] == "union_tag_not_found":
        return f"{path}.{_discriminator(detail)}: missing; it says which one is meant"
    message: str = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not keys and detail["type"] == "value_error":
        return message  # of the whole configuration: it names its keys itself
    allowed = allowed_values(field) if field else ""
    allowed = f"; allowed: {allowed}" if allowed and detail["type"] != "literal_error" else ""
    given = "" if detail["type"] == "value_error" else f" (got {detail['input']!r:.80})"
    return f"{path}: {message}{allowed}{given}"


def allowed_values(field: FieldInfo) -> str:
    """The range or the choices of `field`, such as `> 0, <= 1`; empty when anything of its type will do."""
    bounds = [
        f"{sign} {getattr(mark, key)}" for mark in field.metadata for key, sign in _BOUNDS.items() if hasattr(mark, key)
    ]
    if bounds:
        return ", ".join(bounds)
    choices = [
        repr(value) for part in _parts(field.annotation) if get_origin(part) is Literal for value in get_args(part)
    ]
    return ", ".join(choices)


def _keys(location: tuple[str | int, ...], schema: type[Section], values: Any, missing: bool) -> Iterator[str | int]:
    """`location` without the union tags and type names that pydantic adds to it."""
    node, sections = values, [schema]
    for position, key in enumerate(location):
        is_tag, sections = _below(sections, key)
        if is_tag:
            continue
        in_list = isinstance(node, list) and isinstance(key, int) and key < len(node)
        if in_list or (isinstance(node, dict) and key in node):
            node = node[key]
        elif not (missing and position == len(location) - 1):
            continue
        yield key


def _owner(schema: type[Section], location: tuple[str | int, ...]) -> type[Section] | None:
    """The section that holds the last key of `location`."""
    sections = [schema]
    for key in location[:-1]:
        _, sections = _below(sections, key)
    return sections[0] if sections else None


def _below(sections: list[type[Section]], key: str | int) -> tuple[bool, list[type[Section]]]:
    """Whether `key` is a tag that chooses among `sections`, and the sections that the next key may be in."""
    chosen = [section for section in sections if key in _tags(section)]
    if chosen and len(sections) > 1:
        return True, chosen
    fields = [section.model_fields[key] for section in sections if isinstance(key, str) and key in section.model_fields]
    return False, [below for field in fields for below in sections_in(field.annotation)] or sections


def sections_in(annotation: Any) -> list[type[Section]]:
    """The `Section` classes that `annotation` allows."""
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Section)]


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in typing.get_args(annotation):
            yield from _parts(part)


def _tags(section: type[Section]) -> tuple[Any, ...]:
    """The values of the section's `Literal` fields of one choice, by which unions are told apart."""
    choices = [
        get_args(field.annotation) for field in section.model_fields.values() if get_origin(field.annotation) is Literal
    ]
    return tuple(choice[0] for choice in choices if len(choice) == 1)


def _discriminator(detail: Any) -> str:
    """The key that tells the members of a union apart, `name` or `kind`."""
    return str(detail["ctx"]["discriminator"]).strip("'")
