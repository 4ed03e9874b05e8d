"""The files that `fewlabel init` writes: a card and a configuration, as text that people go on editing."""

import json
from dataclasses import dataclass, field

_CARD = """---
pretty_name: {title}
license: unknown  # which licence or agreement are the data under?
language: {languages}
fewlabel:
  source:
    kind: path
    path: {path}  # relative to this file
  reader:
{readers}
{label_map}  split:
    unit: {unit}
    test_share: {test_share}
  personal_data:
    status: unknown  # none, public, pseudonymised or identifiable
    consent: Not written down yet.  # who agreed to what
    columns_never_read: {never_read}
---

# {name}

A draft by `fewlabel init`. What it saw:

{saw}

Still to be written: who collected the data, when and why, whose they are, what they must not be used for.
"""

_HELD_OUT = "0.3  # held out of pretraining to be tested on; null holds nothing out"
_NO_LABELS = "null  # nothing is held out; 0.1 would keep a tenth to measure held-out loss on"
_NOT_HELD_OUT = "null  # `fewlabel data split` parts the manifest"


@dataclass(frozen=True)
class Draft:
    """What was seen in somebody's data, enough for a card and a configuration.

    Attributes:
        name: Name of the card, the configuration and the run.
        saw: What was seen and guessed, as (heading, line).
        readers: Entries of the card's `reader`.
        unit: What a split never divides: "text", "group" or "subject".
        recipe: Which recipe the configuration is for.
        settings: Lines of the configuration that name the data.
        languages: Language codes.
        classes: Raw labels, each a class of its own.
        never_read: Columns that look personal.
    """

    name: str
    saw: list[tuple[str, str]]
    readers: list[dict[str, str]]
    unit: str
    recipe: str
    settings: str
    languages: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    never_read: list[str] = field(default_factory=list)

    def card(self, path: str) -> str:
        """The card, with `path` from it to the data."""
        labels = "".join(f"    {_yaml(value)}: [{_yaml(value)}]\n" for value in self.classes)
        return _CARD.format(
            title=_yaml(self.name),
            name=self.name,
            languages=_yaml(self.languages),
            path=_yaml(path),
            readers="\n".join(_entry(reader) for reader in self.readers),
            label_map=f"  label_map:\n{labels}" if labels else "",
            unit=self.unit,
            test_share=self._test_share,
            never_read=_yaml(self.never_read),
            saw="\n".join(f"- {heading}: {line}" for heading, line in self.saw),
        )

    @property
    def _test_share(self) -> str:
        if self.recipe != "text_pretrain":
            return _NOT_HELD_OUT
        return _HELD_OUT if self.classes else _NO_LABELS

    @property
    def launch(self) -> str:
        """The command that runs the configuration."""
        return f"fewlabel run {self.recipe} --config configs/{self.recipe}/{self.name}.yaml"

    @property
    def configuration(self) -> str:
        """The configuration; what it leaves out has the recipe's defaults."""
        return f"# {self.launch}\n# Pretrains on {self.name}\n\noutput: runs/{self.name}\n{self.settings}\n"


def _yaml(value: str | list[str]) -> str:
    """A string or list in YAML: JSON's quoting is YAML's too."""
    return json.dumps(value, ensure_ascii=False)


def _entry(values: dict[str, str]) -> str:
    first, *rest = (f"{key}: {_yaml(value)}" for key, value in values.items())
    return "\n".join([f"    - {first}", *(f"      {line}" for line in rest)])
