from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit.text.parallel import read_messages


def test_plural_takes_the_last_form(tmp_path: Path) -> None:
    path = tmp_path / "a.po"
    path.write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        'msgid "one day"\nmsgid_plural "many days"\nmsgstr[0] "en dan"\nmsgstr[1] "mnogo dni"\n',
        encoding="utf-8",
    )
    (message,) = read_messages(path)
    assert (message.original, message.translation) == ("many days", "mnogo dni")


def test_no_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "a.po"
    path.write_text("this is prose\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not a gettext catalogue"):
        list(read_messages(path))
