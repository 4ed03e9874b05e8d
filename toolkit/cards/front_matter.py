"""The YAML at the top of a card: keys of the Hugging Face Hub, and ours under `fewlabel:`."""

import difflib
import inspect
from pathlib import Path
from typing import Annotated, Any, TypeVar

from huggingface_hub import DatasetCardData
from pydantic import AfterValidator, BeforeValidator, ConfigDict

from toolkit.assets import Kind, find_asset
from toolkit.cards.facts import CardFacts
from toolkit.config import Section, parse_yaml, validate
from toolkit.config.mistakes import sections_in
from toolkit.errors import CardError, ConfigError

S = TypeVar("S", bound=Section)

TEMPLATE = "TEMPLATE"
HUB_KEYS = frozenset(inspect.signature(DatasetCardData).parameters)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("must name at least one; `unknown` is a licence too")
    return values


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class FrontMatter(Section):
    """The keys that the code reads. Other keys of the Hub are let through."""

    model_config = ConfigDict(extra="allow")

    pretty_name: str
    """The title."""
    license: Annotated[Listed, AfterValidator(_not_empty)]
    """Licence identifier or identifiers of the Hub; `other` or `unknown` where none fits."""
    language: Listed = ()
    """Language code or codes."""
    task_categories: Listed = ()
    """Task categories of the Hub."""
    fewlabel: CardFacts
    """What fewlabel needs to fetch, read and divide the data."""


def read_card(kind: Kind, name_or_path: str | Path, schema: type[S]) -> tuple[Path, S, str]:
    """A card of any kind: its file, what the code reads of it, and the text below.

    Args:
        kind: Which cards, by their folder.
        name_or_path: A Markdown file, or the name of a card in `./KIND` or among those of fewlabel.
        schema: Of the front matter.

    Raises:
        CardError: No such card, or mistakes in its front matter; each on a line with its key and the nearest.
    """
    try:
        path = find_asset(kind, str(name_or_path)).path
        front, prose = read_front_matter(path)
        for key in front:
            _check_level(str(key), schema, path)
        return path, validate(front, schema, str(path)), prose
    except ConfigError as error:
        raise CardError("\n".join(error.mistakes)) from None


def read_front_matter(path: Path) -> tuple[dict[str, Any], str]:
    """The YAML between the two `---` lines at the top of `path`, and the text below.

    Raises:
        CardError: No such file, no front matter, or not YAML.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CardError(f"{path}: no such card; `fewlabel ls` lists the cards") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as text: {error}") from None
    fences = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(fences) < 2 or fences[0] != 0:
        raise CardError(f"{path}: no front matter; a card opens with YAML between two lines of ---, see {TEMPLATE}.md")
    try:
        # The empty first line keeps the line numbers of error messages those of the file.
        front = parse_yaml("\n".join(["", *lines[1 : fences[1]]]), str(path))
    except ConfigError as error:
        raise CardError(str(error)) from None
    if not isinstance(front, dict):
        raise CardError(f"{path}: the front matter must hold keys and values")
    return front, "\n".join(lines[fences[1] + 1 :]).strip() + "\n"


def _check_level(key: str, schema: type[Section], path: Path) -> None:
    """Refuses a key of ours beside `fewlabel:` instead of below it, and a misspelt one that is read."""
    if any(key in facts.model_fields for facts in sections_in(schema.model_fields["fewlabel"].annotation)):
        raise CardError(f"{path}: {key}: belongs under fewlabel:")
    close = difflib.get_close_matches(key, schema.model_fields, n=1, cutoff=0.85)
    if close and key not in HUB_KEYS and key not in schema.model_fields:
        raise CardError(f"{path}: {key}: unknown key; did you mean {close[0]!r}?")
