"""The corpus that the benchmarks of large texts are run on is the same wherever it is made."""

from pathlib import Path

import pytest

from benchmarks.made_up_texts import make_texts
from toolkit.text.sources import TextSource, open_source


def test_a_corpus_of_any_size_out_of_a_cards_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))
    (tmp_path / "a.csv").write_text(
        "text,lang\nThe hotel was clean and quiet,en\nWe would not stay again,en\n这本书写得很好我非常喜欢,zh\n",
        encoding="utf-8",
    )
    (tmp_path / "mine.md").write_text(
        "---\npretty_name: Test\nlicense: other\nlanguage: [en, zh]\nfewlabel:\n  source: {kind: path, path: a.csv}\n"
        "  reader: [{format: table, member: a.csv, text: text, language: lang}]\n  split: {unit: text}\n"
        "  personal_data: {status: none, consent: invented}\n---\n",
        encoding="utf-8",
    )
    cards = [str(tmp_path / "mine.md")]
    made = make_texts(tmp_path / "one", 50_000, seed=1, cards=cards)
    assert sum(made.values()) == pytest.approx(50_000, rel=0.02)
    make_texts(tmp_path / "two", 50_000, seed=1, cards=cards)
    make_texts(tmp_path / "other", 50_000, seed=2, cards=cards)
    for name in ("en.txt", "zh.txt"):
        content = (tmp_path / "one" / name).read_bytes()
        assert len(content) == made[name[:2]]
        assert content == (tmp_path / "two" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    rows = list(open_source(TextSource(path=str(tmp_path / "one"), language_pattern=r"(\w+)\.txt$")))
    words = {word for row in rows if row.language == "en" for word in row.text.split()}
    assert words == {"The", "hotel", "was", "clean", "and", "quiet", "We", "would", "not", "stay", "again"}
    assert {row.language for row in rows} == {"en", "zh"}
