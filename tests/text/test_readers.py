import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from toolkit.cards.card import DataCard, load_card
from toolkit.errors import DataError
from toolkit.text import read_corpus, read_table

FRONT = """---
pretty_name: Test
license: other
language: [{languages}]
fewlabel:
  source: {{kind: path, path: .}}
  reader:
{readers}
  label_map: {{bad: [[-4, -0.5]], good: [[0.5, 4], "yes"]}}
  split: {{unit: text, test_share: 0.3}}
  personal_data: {{status: none, consent: invented}}
---
# Test
"""


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def card(folder: Path, *readers: dict[str, Any], languages: str = "en") -> DataCard:
    path = folder / "card.md"
    lines = "\n".join(f"    - {json.dumps(reader)}" for reader in readers)
    path.write_text(FRONT.format(languages=languages, readers=lines), encoding="utf-8")
    return load_card(path)


def test_table_with_ratings_groups_and_constants(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(
        '1_1\t2.5\tA "quoted word &amp; more\n1_2\t-1\tPoor thing\n2_1\t0.1\tSo so\n', encoding="utf-8"
    )
    reader = {
        "format": "table",
        "member": "a.tsv",
        "delimiter": "\t",
        "header_rows": 0,
        "quoted": False,
        "columns": ["id", "rating", "text"],
    }
    reader |= {
        "text": "text",
        "label": "rating",
        "group": "id",
        "group_pattern": r"^(\d+)_",
        "unescape_html": True,
        "constants": {"source": "film"},
    }
    corpus = read_corpus(card(tmp_path, reader), tmp_path)
    assert corpus.texts == ['A "quoted word & more', "Poor thing", "So so"]
    assert corpus.labels.tolist() == [1, 0, -1]
    assert corpus.class_names == ("bad", "good")
    assert corpus.groups[0] == corpus.groups[1] != corpus.groups[2]
    assert corpus.groups[0] != "1"  # hashed: groups may be people
    assert set(corpus.frame["source"]) == {"film"} and set(corpus.languages) == {"en"}


def test_pseudonyms_are_of_the_machine_not_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,patient\none,7\ntwo,8\n", encoding="utf-8")
    described = card(tmp_path, {"format": "table", "member": "a.csv", "text": "text", "group": "patient"})
    groups = read_corpus(described, tmp_path).groups.tolist()
    assert read_corpus(described.model_copy(update={"name": "renamed"}), tmp_path).groups.tolist() == groups
    assert read_table(tmp_path / "a.csv", group="patient").groups.tolist() == groups
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "elsewhere"))
    others = read_corpus(described, tmp_path).groups.tolist()
    marks = [{group.partition(".")[0] for group in some} for some in (groups, others)]
    assert len(marks[0]) == len(marks[1]) == 1 and marks[0] != marks[1]
    assert not set(others) & set(groups)  # nobody without the key can try all numbers


def test_groups_of_two_sources_of_a_card_are_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,id,site\none,7,x\ntwo,7,y\n", encoding="utf-8")
    reader = {"format": "table", "member": "a.csv", "text": "text", "group": "id", "source": "site"}
    assert len(set(read_corpus(card(tmp_path, reader), tmp_path).groups)) == 2


@pytest.mark.parametrize(("languages", "read"), [("en", "en"), ("de, und", "und")])
def test_an_empty_language_is_the_only_one_or_undetermined(tmp_path: Path, languages: str, read: str) -> None:
    (tmp_path / "a.csv").write_text("text,lang\nhello,\n", encoding="utf-8")
    reader = {"format": "table", "member": "a.csv", "text": "text", "language": "lang"}
    assert read_corpus(card(tmp_path, reader, languages=languages), tmp_path).languages.tolist() == [read]
    with pytest.raises(DataError, match="a text has no language; add und"):
        read_corpus(card(tmp_path, reader, languages="de, en"), tmp_path)


def test_orange_table_skips_its_header_rows(tmp_path: Path) -> None:
    (tmp_path / "a.tab").write_text(
        "Score\tContent\ncontinuous\tstring\n\tmeta\n1\tLepo\n-1\tSlabo\n", encoding="utf-8"
    )
    reader = {
        "format": "table",
        "member": "a.tab",
        "delimiter": "\t",
        "header_rows": 3,
        "text": "Content",
        "label": "Score",
    }
    assert read_corpus(card(tmp_path, reader, languages="sl"), tmp_path).labels.tolist() == [1, 0]


def test_lines_with_the_label_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "pos.txt").write_text("很好\n不错\n", encoding="utf-8")
    (tmp_path / "neg.txt").write_text("太差\n", encoding="utf-8")
    readers = [
        {"format": "lines", "member": f"{n}.txt", "constants": {"label": c}}
        for n, c in (("pos", "good"), ("neg", "bad"))
    ]
    corpus = read_corpus(card(tmp_path, *readers, languages="zh"), tmp_path)
    assert corpus.labels.tolist() == [1, 1, 0]


def test_sqlite(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute("CREATE TABLE training (text TEXT, label INTEGER, secret TEXT)")
        connection.executemany("INSERT INTO training VALUES (?, ?, 'x')", [("bagus sekali", 1), ("jelek", -1)])
    reader = {"format": "sqlite", "member": "d.db", "table": "training", "text": "text", "label": "label"}
    assert read_corpus(card(tmp_path, reader, languages="id"), tmp_path).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="has no table 'train'; did you mean 'training'"):
        read_corpus(card(tmp_path, reader | {"table": "train"}, languages="id"), tmp_path)


def test_gettext_aligns_languages_by_message(tmp_path: Path, data: Path) -> None:
    for part, word in (("sl", "Shrani ${title}"), ("zh_CN", "保存")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.po").write_text(
            'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
            f'#. Default: "Save ${{title}}"\nmsgid "label_save"\nmsgstr "{word}"\n\n'
            '#, fuzzy\nmsgid "label_fuzzy"\nmsgstr "guess"\n\nmsgid "label_none"\nmsgstr ""\n',
            encoding="utf-8",
        )
    reader = {
        "format": "gettext",
        "member": "*/a.po",
        "languages": {"sl": "sl", "zh_CN": "zh"},
        "originals": "en",
        "replace": {r"\$\{\w+\}": ""},
    }
    corpus = read_corpus(card(tmp_path, reader, languages="en, sl, zh"), tmp_path)
    assert dict(zip(corpus.languages, corpus.texts, strict=True)) == {
        "sl": "Shrani",
        "en": "Save",
        "zh": "保存",
    }
    assert len(set(corpus.groups)) == 1
    assert not data.exists()  # a message names nobody: its digest needs no key and is the same on every machine


def test_a_language_that_is_not_on_the_card(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,lang\nhello,enn\n", encoding="utf-8")
    reader = {"format": "table", "member": "a.csv", "text": "text", "language": "lang"}
    with pytest.raises(DataError, match="language 'enn' of the data is unknown; did you mean 'en'"):
        read_corpus(card(tmp_path, reader, languages="en, sl"), tmp_path)


def test_missing_member(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no 'a.csv'; run `fewlabel data verify card`"):
        read_corpus(card(tmp_path, {"format": "table", "member": "a.csv", "text": "text"}), tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_users_tables_of_every_format(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame(
        {"body": ["fine, really", "poor", "odd"], "mood": ["up", "down", ""], "lang": ["en", "en", "sl"]}
    )
    path = tmp_path / f"mine{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_dict("records")), encoding="utf-8")
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    corpus = read_table(path, "body", label="mood", language="lang")
    assert corpus.texts == ["fine, really", "poor", "odd"]
    assert corpus.class_names == ("down", "up") and corpus.labels.tolist() == [1, 0, -1]
    assert corpus.languages.tolist() == ["en", "en", "sl"]


def test_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("texts,label\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine.csv: has no column 'text'; did you mean 'texts'\?$"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', r"line 2: is not JSON"),
        ('{"text": "a"}\n[1]\n', r"line 2: must hold an object"),
        ("\n\n", "the corpus is empty"),
    ],
)
def test_broken_json_lines_name_the_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet", "gone.jsonl"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / name)


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv", "broken.jsonl"])
def test_files_of_another_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe\x00\x01garbage")
    with pytest.raises(DataError, match="is not") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_unread_suffix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.xlsx is not read"):
        read_table(tmp_path / "mine.xlsx")
