"""Long lines in parts: at white space, else between characters; never dropped."""

from collections.abc import Iterator

LINE_CHARACTERS = 4096
"""Longest line that a trainer sees."""


def split_line(text: str, longest: int = LINE_CHARACTERS) -> Iterator[str]:
    """The text in parts that joined give it back.

    Args:
        text: Of any length.
        longest: Characters of a part; it ends before the last white space within them, or after them where there is
            none.
    """
    start = 0
    while len(text) - start > longest:
        end = start + longest
        cut = next((place for place in range(end, start, -1) if text[place].isspace()), end)
        yield text[start:cut]
        start = cut
    yield text[start:]
