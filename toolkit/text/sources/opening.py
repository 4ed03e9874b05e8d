"""Opens a file of text, compressed or not, and says where it is not what it was taken for."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

from toolkit.errors import DataError

COMPRESSIONS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
LONGEST = 1 << 28
"""Characters of a line or field that are read at once: more is no text with a text a line."""
_SNIFFED_BYTES = 4096
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def plain_suffix(path: Path) -> str:
    """`path`'s suffix without that of its compression, in small letters: `.csv` of `a.CSV.gz`."""
    return Path(path.stem if path.suffix.lower() in COMPRESSIONS else path.name).suffix.lower()


def open_binary(path: Path) -> BinaryIO:
    """The bytes of `path`, decompressed by its suffix."""
    opener = COMPRESSIONS.get(path.suffix.lower())
    return cast(BinaryIO, opener(path, "rb") if opener else path.open("rb"))


@contextmanager
def open_text(path: Path, encoding: str, *, newline: str | None = None) -> Iterator[TextIO]:
    """The text of `path`, decompressed by its suffix; a byte order mark is no part of it.

    Raises:
        DataError: No such file; it is damaged; or its bytes are not of `encoding`: the message has the first line that
            is not, and what the encoding may be.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    opener = COMPRESSIONS.get(path.suffix.lower(), open)
    try:
        _refuse_utf16(path, encoding)
        name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        with opener(path, "rt", encoding=name, newline=newline) as file:
            yield cast(TextIO, file)
    except UnicodeDecodeError as error:
        raise _not_of(path, encoding, error) from None
    except LookupError:
        raise DataError(f"{path}: encoding: {encoding!r} is unknown; use utf-8, latin-1, cp1252, utf-16, ...") from None
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).rstrip(".") or "cut off"
        raise DataError(f"{path}: is damaged or not what its suffix says ({reason}); get it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file with their ends.

    Raises:
        DataError: One is longer than `LONGEST`.
    """
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise DataError(
                f"{path}, line {number}: is longer than {LONGEST:,} characters; put a text on each line, or cut the "
                "file into several and read each whole with `format: documents`"
            )
        yield line


def likely_encoding(content: bytes) -> str:
    """What bytes that are not UTF-8 may be: `utf-16` by its mark or zeros, else Western European of either kind."""
    if content.startswith(_UTF16_MARKS):
        return "utf-16"
    if content.count(0) * 4 > len(content):
        return "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    return "cp1252" if any(0x80 <= byte <= 0x9F for byte in content) else "latin-1"


def remedy(encoding: str, likely: str) -> str:
    """What to do about text that is not of `encoding`."""
    if likely.startswith("utf-16"):
        return f"say `encoding: {likely}`"
    return f"if it is Western European say `encoding: {likely}`, otherwise the one it was written in"


def _refuse_utf16(path: Path, encoding: str) -> None:
    if "16" in encoding or "32" in encoding:
        return
    with open_binary(path) as file:
        content = file.read(_SNIFFED_BYTES)
    likely = likely_encoding(content)
    if likely.startswith("utf-16"):
        raise DataError(f"{path}, line 1: is not {encoding}, or no text; if it is, {remedy(encoding, likely)}")


def _not_of(path: Path, encoding: str, error: UnicodeDecodeError) -> DataError:
    """Names the first line that does not decode, and how many do not: the decoder knows only its own portion."""
    where, line, bad, good, number = "", error.object[max(0, error.start - 40) : error.end + 40], 0, 0, 0
    if "16" not in encoding and "32" not in encoding:
        with open_binary(path) as file:
            for number, content in enumerate(_lines(file), start=1):
                try:
                    good += not content.decode(encoding).isascii()
                except UnicodeDecodeError as first:
                    if not bad:
                        where, line, error = f", line {number}", content, first
                    bad += 1
    begins = f"{path}{where}: is not {encoding} (byte {error.object[error.start]:#04x} in column {error.start + 1})"
    if good:
        return DataError(
            f"{begins}; of {number:,} lines {bad:,} are not, {good:,} are and hold more than ASCII: the file mixes "
            "encodings; bring all of it to one"
        )
    return DataError(f"{begins}; {remedy(encoding, likely_encoding(line))}")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST):
        yield line
