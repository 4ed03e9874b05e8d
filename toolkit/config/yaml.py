"""YAML 1.2 in and out: `no` is Norwegian, `1e-3` is a number, a key given twice is a mistake."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from toolkit.config.section import Section
from toolkit.errors import ConfigError


def parse_yaml(text: str, name: str) -> Any:
    """The value that `text` holds.

    Args:
        text: YAML 1.2.
        name: Where it comes from, for the error message.

    Raises:
        ConfigError: Not YAML; the message has the line.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{name}: {line}not valid YAML: {' '.join(str(error.problem).split())}") from None
    except YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the file `path`.

    Raises:
        ConfigError: No such file, not text, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `fewlabel ls` lists the configurations") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys and values, not a {type(values).__name__}")
    return values


def to_yaml(section: Section) -> str:
    """All values of `section`, defaults included, as YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keep the order of the fields
    stream = io.StringIO()
    yaml.dump(section.model_dump(mode="json"), stream)
    return stream.getvalue()
