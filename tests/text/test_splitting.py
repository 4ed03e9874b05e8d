import pytest

from toolkit.text.splitting import split_line


@pytest.mark.parametrize("text", ["", "short", "a b  c\td\n" * 50, "字" * 1000, "x" * 99 + " " + "y" * 350, " " * 500])
def test_parts_are_short_and_joined_are_the_text(text: str) -> None:
    parts = list(split_line(text, 100))
    assert "".join(parts) == text
    assert all(len(part) <= 100 for part in parts)


def test_it_is_split_at_white_space_where_there_is_some() -> None:
    assert list(split_line("one two\tthree four", 9)) == ["one two", "\tthree", " four"]
    assert list(split_line("one twothreefour", 6)) == ["one", " twoth", "reefou", "r"]
