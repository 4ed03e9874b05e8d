"""Parallel text: gettext catalogues and translation memories. What translates each other shares a group."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from toolkit.cards.reader import GettextReader, TmxReader
from toolkit.errors import DataError
from toolkit.text.parallel import read_messages
from toolkit.text.sources.opening import open_binary
from toolkit.text.sources.row import Row, digest

_XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CODES = {"bpt", "ept", "it", "ph", "ut"}
"""Elements of a segment that hold the markup of the program that it was written in, not text."""


def read_gettext(folder: Path, reader: GettextReader) -> Iterator[Row]:
    """The translated messages of all catalogues of a card.

    Raises:
        DataError: A language has no catalogue, or one cannot be read.
    """
    seen: set[str] = set()
    before, _, after = reader.member.rpartition("*")
    for part, language in reader.languages.items():
        # Only the last star is the language; others go over folders, not all of which need have every
        # language.
        paths = sorted(folder.glob(f"{before}{part}{after}"))
        if not paths:
            raise DataError(f"{folder}: has no {before}{part}{after}; check reader.languages of the card")
        for path in paths:
            yield from _messages(path, reader, language, seen)


def read_catalogue(path: Path, reader: GettextReader) -> Iterator[Row]:
    """One catalogue by itself; its language is what `reader.languages` says of its name, if anything.

    Raises:
        DataError: It cannot be read.
    """
    yield from _messages(path, reader, next(iter(reader.languages.values()), ""), set())


def _messages(path: Path, reader: GettextReader, language: str, seen: set[str]) -> Iterator[Row]:
    for message in read_messages(path, reader.encoding):
        group = digest(reader.member, message.key)
        yield Row(message.translation, language, group=group)
        if reader.originals and group not in seen:
            seen.add(group)
            yield Row(message.original, reader.originals, group=group)


def read_tmx(path: Path, reader: TmxReader) -> Iterator[Row]:
    """For each unit of a translation memory a row a language; two where it has British and American English, say.

    Markup of the program that the segments come from is left out, what it encloses stays.

    Raises:
        DataError: It is no XML, or holds no unit in the languages that are asked for.
    """
    found = False
    others: set[str] = set()
    try:
        with open_binary(path) as file:
            body = None
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if event == "start":
                    body = element if _name(element) == "body" else body
                    continue
                if _name(element) != "tu":
                    continue
                texts: dict[tuple[str, str], None] = {}
                for variant in element:
                    code = variant.get(_XML_LANGUAGE) or variant.get("lang") or ""
                    language = _language(code, reader)
                    segment = next((part for part in variant if _name(part) == "seg"), None)
                    if language is None:
                        others.add(code)
                    elif segment is not None and (text := _text(segment)).strip():
                        texts[language, text] = None
                group = digest(*(part for pair in sorted(texts) for part in pair))
                for language, text in texts:
                    found = True
                    yield Row(text, language, group=group)
                (element if body is None else body).clear()  # so that a large file needs no memory
    except ElementTree.ParseError as error:
        raise DataError(f"{path}, line {error.position[0]}: is not XML: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    if not found:
        languages = f"; its languages are {', '.join(sorted(others))}" if others else ""
        raise DataError(f"{path}: has no translation unit that is asked for{languages}")


def _language(code: str, reader: TmxReader) -> str | None:
    if reader.languages:
        return reader.languages.get(code)
    return code.replace("_", "-").partition("-")[0].lower()


def _text(segment: ElementTree.Element) -> str:
    parts = [segment.text or ""]
    for element in segment:
        if _name(element) not in _CODES:
            parts.append(_text(element))
        parts.append(element.tail or "")
    return "".join(parts)


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
