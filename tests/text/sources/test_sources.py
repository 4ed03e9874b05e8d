"""What a source may be, and what becomes of its rows."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from toolkit.cards import load_card
from toolkit.config import Section, validate
from toolkit.errors import ConfigError, DataError, FetchError
from toolkit.text.sources import AnyTextSource, TextSource, open_source, source_digest

CARD = """---
pretty_name: Test
license: other
language: [en, sl]
fewlabel:
  source: {{kind: path, path: {path}}}
  reader:
    - {{format: table, member: '*.csv', text: text, language: lang, label: stars}}
  label_map: {{bad: [1], good: [5]}}
  split: {{unit: text, test_share: 0.3}}
  personal_data: {{status: none, consent: invented}}
---
"""


class Config(Section):
    texts: tuple[AnyTextSource, ...] = ()


def test_a_string_is_a_path_in_a_configuration() -> None:
    config = validate({"texts": ["corpus/", {"path": "a.csv", "columns": {"text": "body"}}]}, Config, "x.yaml")
    assert [source.path for source in config.texts] == ["corpus/", "a.csv"]
    with pytest.raises(ConfigError, match=r"texts.0.colums: unknown key; did you mean 'columns'"):
        validate({"texts": [{"path": "a.csv", "colums": {}}]}, Config, "x.yaml")
    with pytest.raises(ConfigError, match="give either path or dataset"):
        validate({"texts": [{"language": "en"}]}, Config, "x.yaml")


@pytest.mark.parametrize("path", [".", "a.csv"])
def test_a_card_of_a_folder_or_a_file(tmp_path: Path, path: str) -> None:
    (tmp_path / "a.csv").write_text("text,lang,stars\nfine,en,5\nslabo,sl,1\nodd,sl,3\n", encoding="utf-8")
    (tmp_path / "mine.md").write_text(CARD.format(path=path), encoding="utf-8")
    for spec in (str(tmp_path / "mine.md"), load_card(tmp_path / "mine.md")):
        assert [(row.text, row.language, row.label, row.source) for row in open_source(spec)] == [
            ("fine", "en", "good", "mine"),
            ("slabo", "sl", "bad", "mine"),
            ("odd", "sl", "", "mine"),
        ]
    before = source_digest(str(tmp_path / "mine.md"))
    (tmp_path / "a.csv").write_text("text,lang,stars\nfine,en,4\n", encoding="utf-8")
    assert source_digest(str(tmp_path / "mine.md")) != before


def test_a_folder_in_the_order_of_names_without_what_is_hidden(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b/2.txt", "a.txt", "b/1.txt", ".hidden.txt", "scan.pdf", "c.parquet.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"text of {name}\n", encoding="utf-8")
    with caplog.at_level("WARNING", logger="fewlabel"):
        stream = open_source(str(tmp_path / "corpus"))
    names = ["a.txt", "b/1.txt", "b/2.txt", "c.parquet.txt"]
    assert [row.text for row in stream] == [f"text of {name}" for name in names]
    assert {row.source for row in stream} == {"corpus"}
    refused: list[str] = []
    list(open_source(str(tmp_path / "corpus"), refuse=lambda path, why: refused.append(str(why))))
    assert [line.rpartition("/")[2] for line in refused] == ["scan.pdf: .pdf is not read"]
    before = source_digest(str(tmp_path / "corpus"))
    assert before == source_digest(str(tmp_path / "corpus"))
    assert before != source_digest(TextSource(path=str(tmp_path / "corpus"), language="sl"))
    os.rename(tmp_path / "corpus" / "a.txt", tmp_path / "corpus" / "z.txt")
    assert before != source_digest(str(tmp_path / "corpus"))


def test_what_is_not_there_or_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.txt: no such file, folder or data card"):
        open_source(str(tmp_path / "gone.txt"))
    with pytest.raises(DataError, match="sentiment_e: no such file, folder or data card; did you mean 'sentiment_en'"):
        open_source("sentiment_e")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a.xlsx: .xlsx is not read; use .txt, .jsonl"):
        open_source(str(tmp_path / "a.xlsx"))
    with pytest.raises(DataError, match=r"holds no file that is read .*; it has .xlsx"):
        open_source(str(tmp_path))


def test_a_broken_file_of_a_folder_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("schön\n".encode("latin-1"))
    (tmp_path / "b.txt").write_text("fine\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.txt, line 1: is not utf-8"):
        list(open_source(str(tmp_path)))
    refused: list[Path] = []
    found = list(open_source(str(tmp_path), refuse=lambda path, why: refused.append(path)))
    assert [row.text for row in found] == ["fine"] and [path.name for path in refused] == ["a.txt"]


def test_a_long_line_comes_in_pieces_and_loses_nothing(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(60_000)]
    (tmp_path / "a.txt").write_text(" ".join(words) + "\n" + "字" * 250_000 + "\n", encoding="utf-8")
    stream = open_source(str(tmp_path / "a.txt"))
    found = [row.text for row in stream]
    assert max(map(len, found)) <= 100_000
    spaced = [text for text in found if "w" in text]
    assert " ".join(spaced).split(" ") == words  # cut between words
    assert "".join(text for text in found if "字" in text) == "字" * 250_000
    assert stream.counts == {"read": 2, "cut": 2, "pieces": len(found) - 2, "given": len(found)}


def test_data_sets_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"body": ["eins", "zwei", None], "lang": ["de", "de", "sl"], "n": [1, 2, 3]}
    saved = datasets.Dataset.from_dict(rows)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "two")
    columns = {"text": "body", "language": "lang"}
    one = open_source(TextSource(path=str(tmp_path / "one"), columns=columns))
    assert [(row.text, row.language, row.source) for row in one] == [("eins", "de", "one"), ("zwei", "de", "one")]
    assert one.counts == {"read": 3, "empty": 1, "given": 2}
    spec = TextSource(dataset=str(tmp_path / "two"), split="test", columns=columns)
    assert [row.text for row in open_source(spec)] == ["zwei"]
    assert source_digest(spec) != source_digest(spec.model_copy(update={"split": "train"}))
    with pytest.raises(DataError, match="has no split 'tst'; did you mean 'test'"):
        list(open_source(spec.model_copy(update={"split": "tst"})))
    with pytest.raises(DataError, match="has no column 'text'; known: body, lang, n"):
        list(open_source(str(tmp_path / "one")))


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = TextSource(dataset="nobody/nothing")
    for use in (lambda: list(open_source(spec)), lambda: source_digest(spec)):
        with pytest.raises(FetchError, match=r"nobody/nothing: the Hub does not give it: .*; check name, subset"):
            use()


@pytest.mark.parametrize("name", ["many.txt", "one_line.txt", "many.jsonl", "many.csv", "many.tmx"])
def test_large_files_are_read_in_bounded_memory(tmp_path: Path, name: str) -> None:
    sentence = "This is one of very many sentences of a file that is larger than what may be held. "
    line = {
        "many.jsonl": f"{json.dumps({'text': sentence})}\n",
        "many.tmx": f"<tu><tuv xml:lang='en'><seg>{sentence}</seg></tuv></tu>\n",
        "one_line.txt": sentence,
    }
    path, num = tmp_path / name, 10_000
    with path.open("w", encoding="utf-8") as file:
        file.write({"many.csv": "text\n", "many.tmx": "<tmx><body>"}.get(name, ""))
        file.writelines(line.get(name, f"{sentence}\n") for _ in range(num))
        file.write("</body></tmx>" if name == "many.tmx" else "")
    tracemalloc.start()
    try:
        characters = sum(len(row.text) for row in open_source(str(path)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert characters >= num * (len(sentence) - 1) - 100
    # A single line of .8 MB is split into words and joined again; of files of many lines a few lines are held.
    assert peak < (20e6 if name == "one_line.txt" else 1e6)
