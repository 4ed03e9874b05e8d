"""Sentence-order prediction beside masked modelling (ALBERT: Lan et al. 2020, arXiv:1909.11942)."""

from typing import ClassVar, Literal

from pydantic import Field

from toolkit.config import Section
from toolkit.objectives.base import register
from toolkit.objectives.nsp import NSP
from toolkit.text.pairs import Pairing


class SOPConfig(Section):
    """Settings of sentence-order prediction."""

    name: Literal["sop"] = "sop"
    """The method."""
    pair_weight: float = Field(1.0, gt=0)
    """Weight of the question about the order, beside masked modelling's 1; the paper adds both up."""


@register("sop")
class SOP(NSP):
    """Masked modelling of two segments of one text, and whether they were exchanged; half of them are.

    Batches are those of `toolkit.text.pairs` with the order of segments.

    When to use:
        Texts of several sentences: in a single one, capitals and full stops give the order away.

    Relations:
        `nsp` can be answered by topic alone; this cannot.
    """

    pairing: Pairing | None = "segment_order"
    Config: ClassVar[type[Section]] = SOPConfig
