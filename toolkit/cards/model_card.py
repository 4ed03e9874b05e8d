"""The README.md of a saved encoder: what it is, what it saw, how to open it, what it may be used for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from toolkit.cards.card import DataCard
from toolkit.config import RunConfig, Section, to_yaml

_TEMPLATE = jinja2.Template(
    """---
library_name: {{ library }}
pipeline_tag: feature-extraction
license: {{ "other" if licenses|length != 1 else licenses[0] }}
{%- if languages %}
language:
{%- for language in languages %}
- {{ language }}
{%- endfor %}
{%- endif %}
tags:
- fewlabel
- self-supervised
---

# {{ title }}

{{ summary }}

```python
import toolkit

encoder = toolkit.load_encoder("encoder")   # this folder
{{ usage }}
```

## What it was trained on
{% if not cards %}
Scans or texts of the user's own, without a data card.
{% endif %}
{%- for card in cards %}
- **{{ card.pretty_name }}** (licence: {{ card.license | join(", ") }}; personal data: {{ card.personal_data.status }}).
  {{ card.personal_data.consent }}
{%- endfor %}

No labels were used. A model may keep traces of its training data: what limits the use of the data limits the use of
the model.

## Where it should not be used

It is a research artefact. It has no clinical validation and must not inform decisions about patients.

## How it was trained

```yaml
{{ config }}```
""",
    keep_trailing_newline=True,
    autoescape=False,  # Markdown, from our own configuration and cards
)


def write_model_card(
    folder: Path, *, title: str, summary: str, library: str, usage: str, cards: Sequence[DataCard], config: RunConfig
) -> Path:
    """Writes `folder/README.md` with a front matter that the Hugging Face Hub reads.

    Args:
        folder: The run folder, beside `encoder/`.
        title: The heading.
        summary: A paragraph: architecture, objective, steps.
        library: The library that opens the weights, "transformers" or "monai".
        usage: Lines of Python that use `encoder`.
        cards: The data cards of the training data.
        config: The run's configuration; shown `without_folders`.
    """
    text = _TEMPLATE.render(
        title=title,
        summary=summary,
        library=library,
        usage=usage,
        cards=cards,
        licenses=sorted({license for card in cards for license in card.license}),
        languages=sorted({language for card in cards for language in card.languages}),
        config=to_yaml(without_folders(config)),
    )
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def without_folders(config: Section) -> Section:
    """`config` for a page that others read: of each path, and of each text that is or may be one, the last part alone.

    The names of folders are nobody's business, and may be those of persons.
    """
    shown = {name: _last_parts(getattr(config, name)) for name in type(config).model_fields}
    return config.model_copy(update=shown)


def _last_parts(value: Any) -> Any:
    if isinstance(value, Section):
        return without_folders(value)
    if isinstance(value, dict):
        return {_last_parts(key): _last_parts(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_last_parts, value))
    if isinstance(value, Path | str):
        return type(value)(re.split(r"[/\\]", str(value).rstrip("/\\"))[-1])
    return value
