"""Cards of public models: what others trained, on what, under which licence, and how it becomes a row of a study."""

from pathlib import Path

from pydantic import ConfigDict, Field

from toolkit.assets import list_assets
from toolkit.cards.front_matter import Listed, read_card
from toolkit.config import Section


class PublicModelFacts(Section):
    """The `fewlabel:` section of a public model's card."""

    weights: str
    """Where its authors hand the weights out. Nothing is downloaded from there."""
    paper: str
    """Where it was described: an arXiv number or a DOI."""
    network: str
    """What it is, in words."""
    trained_on: str
    """Which data its pretraining saw, as far as its authors say."""
    origin: str | None = None
    """Origin of `init` that loads its weights into a network of fewlabel; none: it runs by its own code."""
    sources: dict[str, str] = Field(min_length=1)
    """Of each fact, where it was read."""
    not_verified: tuple[str, ...] = ()
    """What was read at second hand or not at all; look before you rely on it."""


class PublicModel(PublicModelFacts):
    """What a card says."""

    name: str
    """The file's name without `.md`."""
    pretty_name: str
    """The title."""
    license: tuple[str, ...]
    """Of the weights: identifiers of the Hugging Face Hub; `unknown` where nobody says."""
    prose: str
    """The Markdown below the front matter."""


class _FrontMatter(Section):
    model_config = ConfigDict(extra="allow")

    pretty_name: str
    license: Listed
    fewlabel: PublicModelFacts


def load_public_model(name_or_path: str | Path) -> PublicModel:
    """Reads a public model's card.

    Args:
        name_or_path: A Markdown file, or the name of a card in `./model_cards` or among those of fewlabel.

    Raises:
        CardError: No such card, or mistakes in its front matter.
    """
    path, header, prose = read_card("model_cards", name_or_path, _FrontMatter)
    return PublicModel(
        **dict(header.fewlabel), name=path.stem, pretty_name=header.pretty_name, license=header.license, prose=prose
    )


def list_public_models() -> list[PublicModel]:
    """All cards of public models in `./model_cards` and among those that fewlabel ships, by name."""
    return [load_public_model(asset.path) for asset in list_assets("model_cards")]
