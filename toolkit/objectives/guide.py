"""The methods as a table, from their own docs: when to use which, and what it costs."""

import inspect
import re

from toolkit.objectives.base import OBJECTIVES, Objective

USE, COST = "When to use", "Memory and cost"


def guide(modality: str | None = None) -> str:
    """A Markdown table of all methods, or of those for one kind of data.

    Args:
        modality: "scans" or "text".
    """
    lines = ["| method | for | when to use | time and memory |", "|---|---|---|---|"]
    for name in OBJECTIVES:
        cls = OBJECTIVES.get(name)
        if modality in (None, cls.modality):
            kinds = ", ".join((cls.modality, *(cls.families or ())))
            cells = (f"`{name}`", kinds, first_sentence(cls, USE), first_sentence(cls, COST))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def first_sentence(cls: type[Objective], section: str) -> str:
    """The first sentence of a section of a method's docstring; empty where it has no such section."""
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", inspect.getdoc(cls) or "", re.MULTILINE)
    text = " ".join(found[1].split()) if found else ""
    return re.split(r"(?<=[.!?])(?<!al\.) (?=[A-Z(`])", text, maxsplit=1)[0]
