"""The audit of texts counts everything once, drops nothing without a reason, and shows nobody's data."""

import re
import stat
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.errors import DataError
from toolkit.text.audit import TextAuditConfig, audit_texts
from toolkit.text.sources import TextSource

LONG = "Die Patientin klagt seit drei Tagen über starke Schmerzen in der Brust und über Atemnot beim Gehen."
SECRET = "ana.novak@example.si"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """German with repeats, Slovene with one text, French that is empty, a file in Latin-1, and a PDF."""
    folder = tmp_path / "letters_of_ana_novak"
    folder.mkdir()
    german = [LONG, LONG.upper(), LONG + " Sehr!", "Grüße, geb. am 03.04.1962", "nul \0 und schÃ¶n", "", "…", "kurz"]
    (folder / "de.txt").write_text("\n".join(german) + "\n", encoding="utf-8")
    (folder / "sl.txt").write_text(f"Pišite na {SECRET} ali +386 1 478 60 00\n", encoding="utf-8")
    (folder / "fr.txt").write_text("\n  \n---\n", encoding="utf-8")
    (folder / "xx.txt").write_bytes("schön\n".encode("latin-1"))
    (folder / "scan.pdf").write_bytes(b"%PDF")
    return folder


def source(folder: Path) -> TextSource:
    return TextSource(path=str(folder), language_pattern=r"([a-z]{2})\.txt$")


def test_counts_before_and_after_with_a_reason_for_each(corpus: Path) -> None:
    found = audit_texts([source(corpus)])
    columns = ["read", "empty", "given", "exact", "near", "kept"]
    assert found.languages[columns].to_dict("index") == {
        "de": dict(zip(columns, (8, 2, 6, 1, 1, 4), strict=True)),
        "sl": dict(zip(columns, (1, 0, 1, 0, 0, 1), strict=True)),
        "fr": dict(zip(columns, (3, 3, 0, 0, 0, 0), strict=True)),  # an empty language is seen
    }
    assert found.rare == ["de", "sl", "fr"]
    assert found.languages.loc["sl", "kept_characters"] == len(f"Pišite na {SECRET} ali +386 1 478 60 00")
    reasons = [re.sub(r".*/", "", reason) for reason in found.refused["reason"]]
    assert reasons[0] == "scan.pdf: .pdf is not read"
    assert reasons[1].startswith("xx.txt, line 1: is not utf-8") and "`encoding: latin-1`" in reasons[1]
    assert set(map(tuple, found.characters.itertuples(index=False))) == {("NUL", "de", 1), ("mojibake", "de", 1)}
    assert set(map(tuple, found.personal.itertuples(index=False))) == {
        ("date of birth", "de", 1, 1),
        ("e-mail", "sl", 1, 1),
        ("phone", "sl", 1, 1),
    }
    assert found.shapes.set_index("kind")["shape"].to_dict() == {
        "date of birth": "99.99.9999",
        "e-mail": "aaa.aaaaa@aaaaaaa.aa",
        "phone": "+999 9 999 99 99",
    }


def test_what_is_looked_for_can_be_chosen(corpus: Path) -> None:
    found = audit_texts([source(corpus)], config=TextAuditConfig(near=1, personal=False))
    assert found.languages.loc["de", "near"] == 0 and found.languages.loc["de", "kept"] == 5
    assert found.personal.empty and found.others is None


def test_texts_in_another_language(tmp_path: Path) -> None:
    pytest.importorskip("py3langid")
    (tmp_path / "sl.txt").write_text(f"{LONG}\nTo je slovensko besedilo o vremenu v gorah danes.\n", encoding="utf-8")
    found = audit_texts(
        [TextSource(path=str(tmp_path / "sl.txt"), language="sl")], config=TextAuditConfig(languages=True)
    )
    assert found.others is not None
    assert found.others.to_dict("records") == [{"language": "sl", "found": "de", "texts": 1}]


def test_nothing_but_refused_files_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"the corpus is empty: .* 1 files were refused, such as .*encoding: latin-1"):
        audit_texts([str(tmp_path / "a.txt")], tmp_path / "private")
    assert "encoding: latin-1" in (tmp_path / "private" / "refused.csv").read_text(encoding="utf-8")


def test_the_command_writes_a_private_folder_and_a_page_that_names_nobody(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    command = ["data", "audit-text", str(corpus), "--out", str(folder), "--language-pattern", r"([a-z]{2})\.txt$"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3, done.output  # a file was refused
    assert "5 texts of 12 rows: de 4, sl 1, fr 0" in done.output
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {
        ".gitignore", "audit.html", "flagged.csv", "languages.csv", "refused.csv",
    }  # fmt: skip
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    page = (folder / "audit.html").read_text(encoding="utf-8")
    for word in (SECRET, "novak", "478 60", "1962", "Schmerzen", str(corpus), "xx.txt", "http://", "https://"):
        assert word not in page.replace("http://www.w3.org", ""), word
    for word in ("aaa.aaaaa@aaaaaaa.aa", "mojibake", "encoding: latin-1", "fr has 0 texts"):
        assert word in page, word
    assert SECRET not in done.output and "1962" not in done.output
    flagged = pd.read_csv(folder / "flagged.csv")
    assert flagged[["text", "language", "found"]].values.tolist() == [
        [4, "de", "date of birth"],
        [5, "de", "NUL"],
        [5, "de", "mojibake"],
        [7, "sl", "e-mail"],
        [7, "sl", "phone"],
    ]
    assert SECRET not in (folder / "flagged.csv").read_text(encoding="utf-8")
    first = page
    assert CliRunner().invoke(app, command).exit_code == 3
    assert (folder / "audit.html").read_text(encoding="utf-8") == first  # equal findings, equal bytes


def test_a_card_can_be_audited(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nfine words\nFine words!\n", encoding="utf-8")
    (tmp_path / "mine.md").write_text(
        "---\npretty_name: Test\nlicense: other\nlanguage: [en]\nfewlabel:\n  source: {kind: path, path: a.csv}\n"
        "  reader: [{format: table, member: a.csv, text: text}]\n  split: {unit: text}\n"
        "  personal_data: {status: none, consent: invented}\n---\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["data", "audit-text", str(tmp_path / "mine.md"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "1 texts of 2 rows: en 1" in done.output
