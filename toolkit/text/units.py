"""What is hidden of a text to score a language model: units that depend on the text alone, not on a tokenizer."""

from collections.abc import Sequence

import numpy as np

from toolkit.text.scripts import is_spaceless

UNIT_CHARACTERS = 4
"""Characters of a unit in scripts without spaces: about two words of Chinese."""


def character_units(text: str) -> np.ndarray:
    """The unit of each character: a run between white space; in scripts without spaces, four characters of one.

    A model with pieces of two characters and one with pieces of one are thus asked for the same, from the same rest.

    Args:
        text: N characters.

    Returns:
        (N,) unit, counted from 0; white space has that of the character that follows it.
    """
    units = np.empty(len(text), dtype=np.int64)
    unit, run, before = -1, 0, None
    spaces: list[int] = []
    for place, character in enumerate(text):
        if character.isspace():
            spaces.append(place)
            before = None
            continue
        spaceless = is_spaceless(character)
        if spaceless is not before or (spaceless and run == UNIT_CHARACTERS):
            unit, run = unit + 1, 0
        units[place], run, before = unit, run + 1, spaceless
        if spaces:
            units[spaces] = unit
            spaces.clear()
    units[spaces] = max(unit, 0)  # after the last word
    return units


def token_units(units: np.ndarray, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """The unit of each token: that of its first character, white space skipped.

    Args:
        units: Of each character, by `character_units`.
        offsets: First and last character (exclusive) of each of T tokens, as fast tokenizers give them.

    Returns:
        (T,), ascending.
    """
    starts = np.array([start for start, _ in offsets], dtype=np.int64)
    return np.maximum.accumulate(units[np.minimum(starts, len(units) - 1)]) if len(starts) else starts
