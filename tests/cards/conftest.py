"""Small sources and cards, made here: a wheel, a folder that pip's `find-links` names, and cards of both."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

CardWriter = Callable[..., Path]

TEXTS = "id\ttext\tfeeling\n1\tgood\t1\n2\tbad\t0\n"
BODY = """\
  reader:
    - {format: table, member: texts.tsv, delimiter: "\\t", text: text, label: feeling}
  label_map: {negative: [0], positive: [1]}
  split: {unit: text, test_share: 0.3}
  personal_data: {status: none, consent: made up for the test}
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with texts in it, in the folder `links`, and with code that must never run."""
    path = tmp_path / "links" / "tiny_texts-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_texts/__init__.py", "raise RuntimeError('code of the source was run')\n")
        archive.writestr("tiny_texts/data/texts.tsv", TEXTS)
        archive.writestr("tiny_texts/data/en/a.po", "english\n")
        archive.writestr("tiny_texts/data/sl/a.po", "slovene\n")
        archive.writestr("tiny_texts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-texts\nVersion: 1.0\n")
    return path


@pytest.fixture
def write_card(tmp_path: Path) -> CardWriter:
    """Writes `NAME.md` with the given source and members, and returns its path."""

    def write(source: str, members: str = "[]", name: str = "tiny", body: str = BODY) -> Path:
        path = tmp_path / f"{name}.md"
        top = "pretty_name: Tiny\nlicense: mit\nlanguage: [en]\n"
        ours = f"fewlabel:\n  source: {source}\n  members: {members}\n{body}"
        path.write_text(f"---\n{top}{ours}---\n\n# Tiny\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def pypi_source(wheel: Path) -> str:
    """The `source` of a card for `wheel`."""
    return (
        f"{{kind: pypi, package: tiny-texts, version: '1.0', file: {wheel.name}, "
        f"sha256: {hashlib.sha256(wheel.read_bytes()).hexdigest()}}}"
    )


@pytest.fixture
def only_links(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip is configured for the wheel's folder and no index; fetched data go into a folder of the test."""
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
