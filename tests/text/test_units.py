"""What is hidden does not depend on the tokenizer."""

import numpy as np

from toolkit.text.units import UNIT_CHARACTERS, character_units, token_units


def runs(text: str) -> list[str]:
    units = character_units(text)
    return ["".join(np.array(list(text))[units == unit]) for unit in range(units.max() + 1)]


def test_words_are_units_and_take_the_space_before_them() -> None:
    assert runs("Two words, here") == ["Two", " words,", " here"]
    assert runs("  tabs\tand\n\nlines ") == ["  tabs", "\tand", "\n\nlines "]


def test_scripts_without_spaces_are_cut_by_characters() -> None:
    text = "这是一个测试句子"
    assert runs(text) == [text[:UNIT_CHARACTERS], text[UNIT_CHARACTERS:]]
    assert runs("我的iPhone很好用啊吗") == ["我的", "iPhone", "很好用啊", "吗"]


def test_nothing_to_cut() -> None:
    assert len(character_units("")) == 0
    assert character_units(" \n").tolist() == [0, 0]
    assert len(token_units(character_units(""), [])) == 0


def test_a_token_belongs_to_the_unit_of_its_first_character_white_space_skipped() -> None:
    units = character_units("ab cd 这是一个测试")
    offsets = [
        (0, 2),
        (2, 3),
        (3, 5),
        (5, 6),
        (6, 9),
        (9, 11),
        (11, 12),
    ]  # a lone space before `cd`; one across the cut
    assert token_units(units, offsets).tolist() == [0, 1, 1, 2, 2, 2, 3]
