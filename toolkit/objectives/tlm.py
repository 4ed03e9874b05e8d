"""Translation language modelling: masked modelling of a text beside its translation (Conneau & Lample 2019,
arXiv:1901.07291)."""

from typing import ClassVar, Literal

from toolkit.config import Section
from toolkit.objectives.base import register
from toolkit.objectives.mlm import MLM
from toolkit.text.pairs import Pairing


class TLMConfig(Section):
    """Settings of translation language modelling."""

    name: Literal["tlm"] = "tlm"
    """The method."""


@register("tlm")
class TLM(MLM):
    """A text and its translation in one row, masked on both sides: what is hidden in one language stands in the other.

    Batches are those of `toolkit.text.pairs` with translations. Positions begin anew in the translation, so that words
    which mean the same lie at about the same ones. The paper also adds a vector of the language to each token; as in
    XLM-R there is none.

    When to use:
        After `mlm`, with at least some thousand pairs of texts, where one language has labels and another has none.

    Relations:
        The loss is that of `mlm`. `simcse` on the same pairs trains the vectors of whole texts.
    """

    pairing: Pairing | None = "translation"
    packs: ClassVar[bool] = False
    Config: ClassVar[type[Section]] = TLMConfig
