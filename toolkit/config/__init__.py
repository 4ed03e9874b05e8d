"""Typed configuration: pydantic sections, YAML 1.2, one-level `extends`, dotted overrides, errors that help."""

from toolkit.config.help import field_lines, json_schema
from toolkit.config.load import load, read_values, validate
from toolkit.config.program import flags, friendly_errors, main
from toolkit.config.run import RunConfig
from toolkit.config.section import Section, digest
from toolkit.config.yaml import parse_yaml, read_yaml, to_yaml

__all__ = [
    "RunConfig",
    "Section",
    "digest",
    "field_lines",
    "flags",
    "friendly_errors",
    "json_schema",
    "load",
    "main",
    "parse_yaml",
    "read_values",
    "read_yaml",
    "to_yaml",
    "validate",
]
