"""The cache of divided corpora: private, and never of other data than those that lie there."""

import stat
from pathlib import Path

import pytest

from toolkit.cards import load_card
from toolkit.text import divide_corpora, divided

CARD = """---
pretty_name: Test
license: other
language: [en]
fewlabel:
  source: {kind: path, path: .}
  reader: [{format: lines, member: "*.txt"}]
  split: {unit: text}
  personal_data: {status: none, consent: invented}
---
# Test
"""


def test_changed_data_and_formats_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "card.md").write_text(CARD, encoding="utf-8")
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    cards, cache = [load_card(tmp_path / "card.md")], tmp_path / "run" / "corpora"

    def texts() -> list[str]:
        return divide_corpora(cards, 0, cache).all_train.texts

    assert texts() == texts() == ["one"]
    (folder,) = cache.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "a.txt").write_text("two\n", encoding="utf-8")
    assert texts() == ["two"]
    monkeypatch.setattr(divided, "FORMAT", divided.FORMAT + 1)
    assert texts() == ["two"]
    assert len(list(cache.iterdir())) == 3
