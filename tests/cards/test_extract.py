"""Archives that mean harm or are damaged are refused; nothing is ever written outside the folder."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from toolkit.cards.extract import extract
from toolkit.cards.source import Member
from toolkit.errors import FetchError


def make_zip(path: Path, files: dict[str, bytes], link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            if name == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], link: str | None = None, kind: bytes = tarfile.SYMTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == link:
                info.type, info.linkname, info.size = kind, content.decode(), 0
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(params=[make_zip, make_tar])
def make(request):
    return request.param


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_named_members_are_written(make, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "a", {"p/x.txt": b"x", "p/code.py": b"harm", "../outside.txt": b"harm"})
    extract(archive, (Member(path="p/x.txt", name="texts/x.txt"),), out)
    assert everything(out) == {"texts/x.txt": b"x"}


def test_an_archive_within_an_archive(tmp_path: Path, out: Path) -> None:
    inner = make_tar(tmp_path / "inner.tar.gz", {"./t/a.txt": b"a", "./t/b.txt": b"b"})
    archive = make_zip(tmp_path / "a.zip", {"p/inner.tar.gz": inner.read_bytes(), "c.txt": b"c"})
    outer = make_zip(tmp_path / "outer.zip", {"q/a.zip": archive.read_bytes()})
    extract(outer, (Member(path="q/a.zip!/p/inner.tar.gz!/t/b.txt", name="deep.txt"),), out)
    assert everything(out) == {"deep.txt": b"b"}
    (out / "deep.txt").unlink()
    members = (
        Member(path="p/inner.tar.gz!/t/a.txt"),
        Member(path="p/inner.tar.gz!/t/*.txt", name="all/*.text"),
        Member(path="c.txt"),
    )
    extract(archive, members, out)
    assert everything(out) == {"a.txt": b"a", "all/a.text": b"a", "all/b.text": b"b", "c.txt": b"c"}


@pytest.mark.parametrize("name", ["../x.txt", "/x.txt", "p/../../x.txt", "C:/x.txt", "p\\..\\x.txt"])
def test_paths_that_leave_the_folder_are_refused(make, tmp_path: Path, out: Path, name: str) -> None:
    archive = make(tmp_path / "a", {name: b"harm"})
    stars = "/".join("*" for _ in name.split("/"))
    with pytest.raises(FetchError, match="leaves its folder"):
        extract(archive, (Member(path=stars, name=stars if not stars.startswith("/") else None),), out)
    assert everything(tmp_path) == {"a": archive.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path: Path, out: Path, kind: bytes) -> None:
    archive = make_tar(tmp_path / "a", {"secret": b"/etc/hostname"}, link="secret", kind=kind)
    with pytest.raises(FetchError, match="is a link"):
        extract(archive, (Member(path="secret"),), out)
    assert everything(out) == {}


def test_links_in_a_zip_are_refused(tmp_path: Path, out: Path) -> None:
    archive = make_zip(tmp_path / "a", {"secret": b"/etc/hostname"}, link="secret")
    with pytest.raises(FetchError, match="is a link"):
        extract(archive, (Member(path="secret"),), out)


def test_a_link_in_a_folder_is_refused_when_it_leads_nowhere(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FetchError, match="is a link"):
        extract(folder, (Member(path="x.txt"),), out)


def test_a_truncated_archive(make, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "a", {"x.txt": bytes(range(256)) * 400})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(FetchError, match=r"cut off|damaged"):
        extract(archive, (Member(path="x.txt"),), out)


def test_a_missing_member_is_named(make, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "a", {"x.txt": b"x"})
    with pytest.raises(FetchError, match=r"no member 'y\.txt'"):
        extract(archive, (Member(path="x.txt"), Member(path="y.txt")), out)


def test_two_members_of_one_name(make, tmp_path: Path, out: Path) -> None:
    archive = make(tmp_path / "a", {"p/x.txt": b"1", "q/x.txt": b"2"})
    with pytest.raises(FetchError, match=r"two members are named 'x\.txt'"):
        extract(archive, (Member(path="p/x.txt"), Member(path="q/x.txt")), out)
