"""The fields of a configuration as help text and as a JSON Schema, both from the same docstrings."""

from collections.abc import Iterator
from typing import Any, get_origin

from toolkit.config.mistakes import allowed_values, sections_in
from toolkit.config.section import Section


def field_lines(schema: type[Section], prefix: str = "") -> Iterator[str]:
    """One line a key: dotted path, default, allowed values, meaning; sections are walked through.

    NAME stands for the names that users give in a mapping.
    """
    for name, field in schema.model_fields.items():
        path = f"{prefix}{name}{'.NAME' if get_origin(field.annotation) is dict else ''}"
        below = sections_in(field.annotation)
        if below:
            for section in below:
                if len(below) > 1:
                    yield f"  {path} as {section.model_fields['name'].default}:"
                yield from field_lines(section, f"{path}.")
            continue
        default = "required" if field.is_required() else f"{field.default!r}"
        allowed = allowed_values(field)
        notes = f"[{default}{'; ' + allowed if allowed else ''}]"
        yield f"  {path} {notes} {' '.join((field.description or '').split())}"


def json_schema(schema: type[Section]) -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of a recipe's configuration file, for editors."""
    document = schema.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["properties"] = {
        "extends": {
            "type": "string",
            "description": "Another file, relative to this one, whose values come first.",
        }
    } | document.get("properties", {})
    # With `extends` a file may leave out what its parent holds.
    document.pop("required", None)
    return document
