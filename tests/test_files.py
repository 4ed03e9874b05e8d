"""Files are put in place whole or not at all, and open to no more people than they should be."""

import os
import stat
from pathlib import Path

import pytest

from toolkit.files import write_atomically


@pytest.mark.parametrize(("given", "umask", "expected"), [({}, 0o027, 0o640), ({"mode": 0o600}, 0o000, 0o600)])
def test_a_file_has_its_mode_from_the_first_byte_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], umask: int, expected: int
) -> None:
    seen: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(stat.S_IMODE(os.fstat(file).st_mode)), real(file)))
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"first", **given)
        write_atomically(tmp_path / "a", b"second", **given)
    finally:
        os.umask(before)
    assert seen == [expected, expected]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == expected
    assert (tmp_path / "a").read_bytes() == b"second"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a", b"whole")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"half")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"whole"
