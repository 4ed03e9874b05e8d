"""Every format gives the same rows, plain and compressed, and says where it is broken."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polib
import pytest

from toolkit.errors import DataError
from toolkit.text.sources import Row, TextSource, open_source

TEXTS = ["Gut, wirklich.", "好极了", 'drei "Worte" hier']
COLUMNS = {"text": "body", "language": "lang", "group": "who", "label": "mood"}
TABLE = pd.DataFrame({"body": TEXTS, "lang": ["de", "zh", ""], "who": ["7", "", "7"], "mood": ["up", "", "down"]})


def rows(path: Path, **spec: object) -> list[Row]:
    return list(open_source(TextSource.model_validate({"path": str(path)} | spec)))


def write(path: Path, content: str) -> Path:
    openers: dict[str, Callable[..., object]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    with openers.get(path.suffix, open)(path, "wt", encoding="utf-8") as file:  # type: ignore[attr-defined]
        file.write(content)
    return path


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".bz2"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_every_format(tmp_path: Path, suffix: str, compression: str) -> None:
    path = tmp_path / f"mine{suffix}{compression}"
    if suffix == ".parquet":
        if compression:
            return
        TABLE.to_parquet(path)
    elif suffix == ".jsonl":
        write(path, "\n".join(json.dumps(row, ensure_ascii=False) for row in TABLE.to_dict("records")))
    else:
        write(path, TABLE.to_csv(sep="\t" if suffix == ".tsv" else ",", index=False))
    found = rows(path, columns=COLUMNS, language="en")
    assert [row.text for row in found] == TEXTS
    assert [row.language for row in found] == ["de", "zh", "en"]
    assert [row.label for row in found] == ["up", "", "down"]
    assert {row.source for row in found} == {"mine"}
    assert found[0].group == found[2].group not in ("7", "") and found[1].group == ""  # under this machine's key


@pytest.mark.parametrize("name", ["sl.txt", "sl.txt.gz"])
def test_a_text_a_line_and_a_text_a_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "prva\n\n druga   vrstica \r\ntretja")
    stream = open_source(TextSource(path=str(path), language_pattern=r"([a-z]+)\.txt"))
    assert [(row.text, row.language) for row in stream] == [
        ("prva", "sl"),
        ("druga vrstica", "sl"),
        ("tretja", "sl"),
    ]
    assert stream.counts == {"read": 4, "empty": 1, "given": 3}
    assert list(stream) == list(stream)  # as often as it is asked for
    (row,) = rows(path, format="documents")
    assert row.text == "prva druga vrstica tretja" and row.language == "und"
    assert row.group and name not in row.group  # a letter may be called as its patient


def test_a_catalogue_names_its_language(tmp_path: Path) -> None:
    for language, word in (("sl", "Shrani"), ("pt_BR", "Salvar")):
        catalogue = polib.POFile()
        catalogue.metadata = {"Content-Type": "text/plain; charset=utf-8", "Language": language}
        catalogue.append(polib.POEntry(msgid="Save", msgstr=word))
        (tmp_path / "po").mkdir(exist_ok=True)
        catalogue.save(str(tmp_path / "po" / f"{language}.po"))
        (tmp_path / "mo").mkdir(exist_ok=True)
        catalogue.save_as_mofile(str(tmp_path / "mo" / f"{language}.mo"))
    for folder in ("po", "mo"):
        found = rows(tmp_path / folder, originals="en")
        assert {(row.text, row.language) for row in found} == {("Shrani", "sl"), ("Save", "en"), ("Salvar", "pt")}
        assert len({row.group for row in found}) == 1  # they translate each other


TMX = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
<tu tuid="1"><tuv xml:lang="en-US"><seg>Press <bpt i="1">&lt;b&gt;</bpt>Save<ept i="1">&lt;/b&gt;</ept> now</seg></tuv>
<tuv xml:lang="sl"><seg>Pritisnite <hi>Shrani</hi></seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Open</seg></tuv><tuv xml:lang="de"><seg>\u00d6ffnen</seg></tuv></tu>
</body></tmx>"""


def test_a_translation_memory_without_its_markup(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx.gz", TMX)
    found = rows(path)
    assert [(row.text, row.language) for row in found] == [
        ("Press Save now", "en"),
        ("Pritisnite Shrani", "sl"),
        ("Open", "en"),
        ("\u00d6ffnen", "de"),
    ]
    groups = [row.group for row in found]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert [row.language for row in rows(path, languages={"en-US": "en", "sl": "sl"})] == ["en", "sl"]
    with pytest.raises(DataError, match="has no translation unit that is asked for; its languages are de, en, en-US"):
        rows(path, languages={"fr": "fr"})
    broken = write(tmp_path / "b.tmx", TMX[:-30])
    with pytest.raises(DataError, match=r"b.tmx, line \d+: is not XML"):
        rows(broken)


def test_two_kinds_of_a_language_in_one_unit_are_both_read(tmp_path: Path) -> None:
    unit = "".join(
        f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>'
        for code, text in (("en-US", "color"), ("en-GB", "colour"), ("en-CA", "colour"), ("de", "Farbe"))
    )
    found = rows(write(tmp_path / "a.tmx", f"<tmx><body><tu>{unit}</tu></body></tmx>"))
    assert [(row.text, row.language) for row in found] == [("color", "en"), ("colour", "en"), ("Farbe", "de")]
    assert len({row.group for row in found}) == 1


def test_a_table_of_translations(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'English\tDeutsch\tnote\nA "quoted\tEin\tx\nOnly\t\ty\n')
    found = rows(path, format="parallel", languages={"English": "en", "Deutsch": "de"}, quoted=False)
    assert [(row.text, row.language) for row in found] == [('A "quoted', "en"), ("Ein", "de"), ("Only", "en")]
    assert found[0].group == found[1].group != found[2].group
    with pytest.raises(DataError, match="has no column 'Englisch'; did you mean 'English'"):
        rows(path, format="parallel", languages={"Englisch": "en"}, quoted=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,x\nfine,1\nlong,2,3\n", r"a.csv, line 3: has 3 fields, the table has 2 columns"),
        (
            "a.csv",
            'text,x\nfine,1\n"open,2\nrest,3\n',
            r"line 3: a quote that opens here is never closed.*quoted: false",
        ),
        ("a.csv", "text,x\n", "the corpus is empty: the table has no rows"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": }\n', r"a.jsonl, line 3: is not JSON: .* at column 10"),
        ("a.jsonl", '{"txt": "a"}\n', "has no column 'text'; did you mean 'txt'"),
        ("a.jsonl", "[" * 100_000, "line 1: is nested too deeply"),
        ("a.po", "this is prose\n", "is not a gettext catalogue"),
        ("a.mo", "this is prose\n", "is not a gettext catalogue"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        rows(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_column_that_no_object_has_is_missed_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "lang": "sl"}\n')
    assert [row.language for row in rows(path, columns={"language": "lang"})] == ["und", "sl"]
    with pytest.raises(DataError, match="has no column 'langs'; did you mean 'lang'"):
        rows(path, columns={"language": "langs"})


def test_cut_off_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"a text\n" * 1000)
    for name, content in (("a.txt.gz", whole[:-20]), ("b.txt.gz", b"no gzip"), ("c.txt.xz", b"no xz")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: is damaged or not what its suffix says"):
            rows(tmp_path / name)


def test_latin_1_names_file_line_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes(b"plain\n" * 9999 + "schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"old.txt, line 10000: is not utf-8 \(byte 0xf6.*`encoding: latin-1`"):
        rows(path)
    assert rows(path, encoding="latin-1")[-1].text == "schön"
    path.write_bytes("“schön”\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"line 1: is not utf-8 .*`encoding: cp1252`"):
        rows(path)
    path.write_bytes("schön\n".encode() * 3 + "schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 4.* of 4 lines 1 are not, 3 are and hold more than ASCII: .* mixes"):
        rows(path)
    with pytest.raises(DataError, match="encoding: 'latin-7b' is unknown"):
        rows(path, encoding="latin-7b")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_recognised(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nein Satz\n".encode(encoding))
    with pytest.raises(DataError, match=f"say `encoding: {encoding}`"):
        rows(path)
    assert [row.text for row in rows(path, encoding=encoding)] == ["ein Satz"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\neins\n".encode("utf-8-sig"))
    assert [row.text for row in rows(path)] == ["eins"]


def test_nul_bytes_and_lone_surrogates_come_through_and_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\nnul \0 inside\n")
    assert [row.text for row in rows(path)] == ["nul \0 inside"]
    stream = open_source(str(write(tmp_path / "a.jsonl", '{"text": "half \\ud83d of an emoji"}\n')))
    assert [row.text for row in stream] == ["half \ufffd of an emoji"]
    assert stream.counts["mended"] == 1
