"""From a card to a verified folder, and every way in which that can go wrong."""

import errno
import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.cards import fetch, load_card, verify
from toolkit.cards import fetch as fetch_function
from toolkit.cards.fetch import RECEIPT
from toolkit.errors import DiskError, FetchError

MEMBERS = "[{path: tiny_texts/data/texts.tsv}]"
fetch_module = sys.modules[fetch_function.__module__]


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*") if not path.name.endswith(".lock"))


def test_a_file_of_the_index_is_fetched_once(only_links: Path, write_card, pypi_source: str, wheel: Path) -> None:
    card = load_card(write_card(pypi_source, MEMBERS))
    folder = fetch(card)
    assert folder == only_links / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == [RECEIPT, "texts.tsv"]
    assert (folder / "texts.tsv").read_text().startswith("id\ttext")
    assert leftovers(only_links) == ["tiny"]
    wheel.unlink()
    assert fetch(card) == folder
    assert verify(card) == []


def test_stars_take_directories_into_names(only_links: Path, write_card, pypi_source: str) -> None:
    members = "[{path: tiny_texts/data/*/a.po, name: 'po/*.po'}]"
    folder = fetch(load_card(write_card(pypi_source, members)))
    assert {path.name: path.read_text() for path in (folder / "po").iterdir()} == {
        "en.po": "english\n",
        "sl.po": "slovene\n",
    }


def test_a_changed_card_is_fetched_anew(only_links: Path, write_card, pypi_source: str) -> None:
    fetch(load_card(write_card(pypi_source, MEMBERS)))
    card = load_card(write_card(pypi_source, "[{path: tiny_texts/data/en/a.po}]"))
    assert "another version" in verify(card)[0]
    folder = fetch(card)
    assert sorted(path.name for path in folder.iterdir()) == [RECEIPT, "a.po"]
    assert leftovers(only_links) == ["tiny"]


def test_verify_names_what_is_wrong_and_fetch_mends_it(only_links: Path, write_card, pypi_source: str) -> None:
    card = load_card(write_card(pypi_source, MEMBERS))
    assert "not fetched" in verify(card)[0]
    texts = fetch(card) / "texts.tsv"
    good = texts.read_text()
    texts.write_text(good.replace("good", "evil"))
    assert "texts.tsv: changed" in verify(card)[0]
    texts.unlink()
    assert "texts.tsv: missing" in verify(card)[0]
    fetch(card)
    assert texts.read_text() == good


def test_a_wrong_digest_is_refused(only_links: Path, write_card, pypi_source: str, wheel: Path) -> None:
    card = load_card(write_card(pypi_source, MEMBERS))
    with wheel.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(FetchError, match="the card says") as caught:
        fetch(card)
    assert "\n" not in str(caught.value)
    assert leftovers(only_links) == []


def test_a_version_that_is_not_there(only_links: Path, write_card, pypi_source: str, wheel: Path) -> None:
    card = load_card(write_card(pypi_source.replace("1.0", "1.1"), MEMBERS))
    with pytest.raises(FetchError, match="not in the package index"):
        fetch(card)


def test_without_network_one_line(only_links: Path, write_card, pypi_source: str, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    with pytest.raises(FetchError, match="check the network") as caught:
        fetch(load_card(write_card(pypi_source, MEMBERS)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("tiny: tiny_texts-1.0-py3-none-any.whl of tiny-texts==1.0")
    assert leftovers(only_links) == []


def test_local_links_serve_when_the_index_is_unreachable(
    only_links: Path, write_card, pypi_source: str, monkeypatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert (fetch(load_card(write_card(pypi_source, MEMBERS))) / "texts.tsv").is_file()


def test_a_full_disk_leaves_nothing(only_links: Path, write_card, pypi_source: str, monkeypatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module, "extract", no_space)
    with pytest.raises(DiskError, match="disk is full"):
        fetch(load_card(write_card(pypi_source, MEMBERS)))
    assert leftovers(only_links) == []


def test_a_killed_fetch_is_taken_up(only_links: Path, write_card, pypi_source: str) -> None:
    stale = only_links / ".tiny.partial" / "data"
    stale.mkdir(parents=True)
    (stale / "texts.tsv").write_text("half")
    folder = fetch(load_card(write_card(pypi_source, MEMBERS)))
    assert "half" not in (folder / "texts.tsv").read_text()
    assert leftovers(only_links) == ["tiny"]


def test_a_path_source_stays_where_it_is(only_links: Path, tmp_path: Path, write_card) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "texts.tsv").write_text("text\tfeeling\n")
    card = load_card(write_card("{kind: path, path: own}", "[{path: '*.tsv'}]"))
    assert fetch(card) == own
    assert verify(card) == []
    assert not only_links.exists()
    (own / "texts.tsv").unlink()
    with pytest.raises(FetchError, match=r"nothing in .* matches '\*\.tsv'"):
        fetch(card)
    shutil.rmtree(own)
    assert "does not exist; it is relative to the card" in verify(card)[0]


def test_a_path_source_may_be_one_file_with_a_digest(tmp_path: Path, write_card) -> None:
    (tmp_path / "texts.tsv").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    card = load_card(write_card("{kind: path, path: texts.tsv}", f"[{{path: texts.tsv, sha256: {digest}}}]"))
    assert fetch(card) == tmp_path
    (tmp_path / "texts.tsv").write_text("y")
    assert "not the card's" in verify(card)[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that serves the test's folder."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, what `snapshot_download` asks of the Hub, and one answer that is cut off."""

    commit = "0" * 40

    def do_GET(self) -> None:
        if self.path == "/cut.tsv":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path.startswith("/api/datasets/owner/texts/revision/"):
            self._json({"id": "owner/texts", "sha": self.commit, "siblings": [{"rfilename": "data/texts.tsv"}]})
        elif self.path.startswith("/api/datasets/owner/texts/tree/"):
            self._json([{"type": "file", "path": "data/texts.tsv", "size": 3, "oid": "1" * 40}])
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        self.path = self._unresolved()
        super().do_HEAD()

    def send_head(self):
        self.path = self._unresolved()
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", '"1111111111111111111111111111111111111111"')
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass

    def _json(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _unresolved(self) -> str:
        return self.path.replace(f"/datasets/owner/texts/resolve/{self.commit}", "")


def test_a_url_source(only_links: Path, tmp_path: Path, server: str, write_card) -> None:
    (tmp_path / "texts.tsv").write_text("x")
    source = f"{{kind: url, url: {server}/texts.tsv, sha256: {hashlib.sha256(b'x').hexdigest()}}}"
    assert (fetch(load_card(write_card(source))) / "texts.tsv").read_text() == "x"
    with pytest.raises(FetchError, match="the server answers 404"):
        fetch(load_card(write_card(source.replace("texts.tsv", "none.tsv"), name="other")))
    with pytest.raises(FetchError, match=r"cut\.tsv cannot be fetched"):
        fetch(load_card(write_card(source.replace("texts.tsv", "cut.tsv"), name="other")))
    assert leftovers(only_links) == ["tiny"]


def test_a_hub_source(only_links: Path, tmp_path: Path, server: str, write_card) -> None:
    """The Hub's own client talks to a server that answers as the Hub does; its address is read at import."""
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "texts.tsv").write_text("abc")
    card = write_card(f"{{kind: hf, repo: owner/texts, revision: '{'0' * 40}'}}", "[{path: data/texts.tsv}]")
    program = "import sys; from toolkit.cards import fetch, load_card; fetch(load_card(sys.argv[1]), sys.argv[2])"
    environment = {
        "HF_ENDPOINT": server,
        "HF_HOME": str(tmp_path / "hf"),
        "PATH": "",
        "HF_HUB_DISABLE_XET": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program, str(card), str(tmp_path / "got")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "got" / "tiny" / "texts.tsv").read_text() == "abc"
