"""`Section`: one typed, frozen part of a configuration. Unknown keys are refused."""

import hashlib
import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every configuration class.

    A field's attribute docstring is its help text, its description in the JSON Schema and its documentation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


def digest(section: Section, exclude: Iterable[str] = ()) -> str:
    """16 hex digits that identify the values of `section`, without its top-level fields `exclude`."""
    values = section.model_dump(mode="json", exclude=set(exclude))
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
