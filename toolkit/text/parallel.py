"""Translation catalogues (gettext `.po`, `.mo`): messages in two languages."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polib

from toolkit.errors import DataError

_DEFAULT_COMMENT = re.compile(r'^Default:\s*"(.*)"\s*$', re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One translated message.

    Attributes:
        key: Context and id; the same in the catalogues of all languages.
        original: The text in the original language: the `Default: "..."` comment, or without one the id.
        translation: The text in the catalogue's language; of plural forms the last.
    """

    key: str
    original: str
    translation: str


def read_messages(path: Path, encoding: str = "utf-8") -> Iterator[Message]:
    """The translated messages of one catalogue, without fuzzy and obsolete ones.

    Raises:
        DataError: The file is no catalogue.
    """
    for entry in _catalogue(path, encoding).translated_entries():
        plural = bool(entry.msgid_plural)
        default = _DEFAULT_COMMENT.match(entry.comment or "")
        yield Message(
            key=f"{entry.msgctxt or ''}\0{entry.msgid}",
            original=default.group(1) if default else entry.msgid_plural if plural else entry.msgid,
            translation=entry.msgstr_plural[max(entry.msgstr_plural)] if plural else entry.msgstr,
        )


def catalogue_language(path: Path, encoding: str = "utf-8") -> str:
    """The language that a catalogue's header names, without its country (`pt` of `pt_BR`); empty where it names none.

    Raises:
        DataError: The file is no catalogue.
    """
    named = _catalogue(path, encoding).metadata.get("Language", "")
    return re.split(r"[_@.-]", named.strip())[0].lower()


def _catalogue(path: Path, encoding: str) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    read = polib.mofile if path.suffix == ".mo" else polib.pofile
    try:
        return read(str(path), encoding=encoding)
    except (OSError, UnicodeDecodeError, struct.error) as error:
        raise DataError(f"{path}: is not a gettext catalogue: {' '.join(str(error).split())}") from None
