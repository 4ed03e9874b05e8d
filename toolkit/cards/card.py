"""Data cards: one Markdown file a data set, read by people, by the code and by the Hugging Face Hub."""

from pathlib import Path

from toolkit.assets import list_assets
from toolkit.cards.facts import CardFacts, Value, means
from toolkit.cards.front_matter import TEMPLATE, FrontMatter, read_card
from toolkit.config import digest


class DataCard(CardFacts):
    """What a card says. `fetch` obtains its data, `verify` checks them, `reader` says how to read them."""

    name: str
    """The file's name without `.md`."""
    path: Path
    """The Markdown file."""
    pretty_name: str
    """The title."""
    license: tuple[str, ...]
    """Licence identifiers of the Hugging Face Hub."""
    languages: tuple[str, ...]
    """Language codes (ISO 639-1, or 639-3 where it has none)."""
    tasks: tuple[str, ...]
    """Task categories of the Hugging Face Hub."""
    prose: str
    """The Markdown below the front matter."""

    @property
    def digest(self) -> str:
        """16 hex digits of all that decides which data are read and how they are divided."""
        decisive = {"source", "members", "reader", "label_map", "split"}
        return digest(self, exclude=set(type(self).model_fields) - decisive)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; the position is the class id."""
        return list(self.label_map)

    def label_of(self, value: Value | None) -> int:
        """The class id of a raw value, by `label_map`; -1 where it has none.

        A class name means itself. Numbers are compared as numbers, also when they were read as text.
        """
        if isinstance(value, str) and value in self.label_map:
            return self.class_names.index(value)
        return next((index for index, values in enumerate(self.label_map.values()) if means(value, values)), -1)


def load_card(name_or_path: str | Path) -> DataCard:
    """Reads a data card.

    Args:
        name_or_path: A Markdown file, or the name of a card in `./data_cards` or among those of fewlabel.

    Raises:
        CardError: No such card, or mistakes in its front matter; each on a line with its key and the nearest.
    """
    path, header, prose = read_card("data_cards", name_or_path, FrontMatter)
    return DataCard(
        **dict(header.fewlabel),
        name=path.stem,
        path=path,
        pretty_name=header.pretty_name,
        license=header.license,
        languages=header.language,
        tasks=header.task_categories,
        prose=prose,
    )


def list_cards() -> list[DataCard]:
    """All cards in `./data_cards` and among those that fewlabel ships, by name, without the template."""
    return [load_card(asset.path) for asset in list_assets("data_cards") if asset.name != TEMPLATE]
