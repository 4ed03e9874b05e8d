"""The `fewlabel:` section of a data card."""

from typing import Literal, Self

from pydantic import Field, model_validator

from toolkit.cards.reader import (
    DocumentsReader,
    GettextReader,
    ParallelReader,
    Reader,
    TextReader,
    TmxReader,
    VolumeReader,
)
from toolkit.cards.source import HfSource, Member, PathSource, Source
from toolkit.config import Section

Value = str | int | float
Values = Value | tuple[float, float]


class Split(Section):
    """How the data are divided into what may be trained on and what is only tested on."""

    unit: Literal["text", "group", "subject"]
    """What is never divided; for a group or subject, a reader must say which one a row belongs to."""
    test_share: float | None = Field(None, gt=0, lt=1)
    """Share of the units held out, drawn by the study's seed."""
    stratify: tuple[Literal["label", "language", "source"], ...] = ()
    """Columns whose proportions the held-out part keeps."""
    test_subjects: tuple[str, ...] = ()
    """Subjects that are wholly held out."""


class PersonalData(Section):
    """What the data say about people, and on what ground they are here."""

    status: Literal["none", "public", "pseudonymised", "identifiable", "unknown"]
    """The worst case in the data as read; `public` is what people published under their own names."""
    consent: str
    """Who agreed to what, as far as is known."""
    columns_never_read: tuple[str, ...] = ()
    """Columns of the source that hold personal data; no reader may name them."""


class CardFacts(Section):
    """What fewlabel needs to fetch, read and divide the data."""

    source: Source
    """Where the data come from."""
    members: tuple[Member, ...] = ()
    """The files wanted from it. None: the source is one plain file, or a folder used as it is."""
    reader: tuple[Reader, ...]
    """How to read the members, one entry for each kind of file."""
    label_map: dict[str, tuple[Values, ...]] = Field(default_factory=dict)
    """Classes in order, each with the raw values that mean it: single values, or `[low, high]` with
    both included. A value in none of them leaves its text or voxel without a label."""
    split: Split
    """How to divide the data."""
    personal_data: PersonalData
    """People in the data."""
    counts: dict[str, int | dict[str, int]] = Field(default_factory=dict)
    """What was measured on the data as read."""

    @model_validator(mode="after")
    def _members_fit_the_source(self) -> Self:
        if isinstance(self.source, HfSource) and not self.members:
            raise ValueError("members: name the files wanted from the Hub")
        if isinstance(self.source, PathSource) and any(member.name for member in self.members):
            raise ValueError("members: files of a path source stay where they are and keep their names")
        return self

    @model_validator(mode="after")
    def _classes_do_not_overlap(self) -> Self:
        for name, values in self.label_map.items():
            for value in values:
                edges = value if isinstance(value, tuple) else (value,)
                if edges[0] != edges[-1] and float(edges[0]) > float(edges[-1]):
                    raise ValueError(f"label_map.{name}: {list(edges)} is empty; write [low, high]")
                for edge in edges:
                    owners = [other for other, known in self.label_map.items() if means(edge, known)]
                    if len(owners) > 1:
                        raise ValueError(f"label_map: {edge} belongs to two classes: {', '.join(owners)}")
        return self

    @model_validator(mode="after")
    def _reader_fits(self) -> Self:
        if not self.reader:
            raise ValueError("reader: must hold at least one entry")
        for reader in self.reader:
            columns = [getattr(reader, column, None) for column in ("text", "label", "language", "group", "source")]
            columns += reader.languages if isinstance(reader, ParallelReader) else ()
            for column in self.personal_data.columns_never_read:
                if column in columns:
                    raise ValueError(f"reader reads {column!r}, which personal_data.columns_never_read forbids")
            label = getattr(reader, "constants", {}).get("label")
            if label is not None and label not in self.label_map:
                raise ValueError(f"reader: constants.label {label!r} is not a class of label_map")
        return self

    @model_validator(mode="after")
    def _unit_is_known(self) -> Self:
        if self.split.unit != "text" and not any(map(_names_groups, self.reader)):
            raise ValueError(
                f"split.unit: {self.split.unit}, but no reader names one; add `group: COLUMN`, or write unit: text"
            )
        return self


def _names_groups(reader: TextReader | VolumeReader) -> bool:
    if isinstance(reader, DocumentsReader | GettextReader | ParallelReader | TmxReader | VolumeReader):
        return True
    return bool(getattr(reader, "group", None) or reader.constants.get("group"))


def means(value: Value | None, values: tuple[Values, ...]) -> bool:
    """Whether a raw value is one of `values` or in one of their ranges. Text may be a number."""
    number = _number(value)
    for known in values:
        if isinstance(known, tuple):
            if number is not None and known[0] <= number <= known[1]:
                return True
        elif value is not None and (
            str(known) == str(value).strip() or (number is not None and number == _number(known))
        ):
            return True
    return False


def _number(value: Value | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
