"""The key of pseudonyms: drawn once, private, and never half there."""

import hashlib
import hmac
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolkit.cards.pseudonyms import KEY_FILE, key_mark, pseudonym, pseudonym_key
from toolkit.errors import DataError, DiskError


def test_a_key_is_drawn_once_for_each_root(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(pseudonym_key, [tmp_path / "a"] * 8))
    assert len(keys) == 1
    assert keys != {pseudonym_key(tmp_path / "b")}
    assert (tmp_path / "a" / KEY_FILE).read_bytes() in keys
    assert stat.S_IMODE((tmp_path / "a" / KEY_FILE).stat().st_mode) == 0o600


def test_a_damaged_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(DataError, match="is not a key of 32 bytes; restore it"):
        pseudonym_key(tmp_path)


def test_a_place_where_no_key_can_be_is_one_line() -> None:
    with pytest.raises(DiskError, match=r"/proc/x: cannot be written .*; set FEWLABEL_DATA to a folder of yours"):
        pseudonym_key("/proc/x")


def test_a_pseudonym_carries_its_keys_mark_and_differs_by_kind() -> None:
    ours, theirs = bytes(32), bytes([1]) * 32
    name = pseudonym(ours, "subject", "1234")
    assert re.fullmatch(r"[0-9a-f]{8}\.[0-9a-f]{16}", name)  # what splits knows as a pseudonym
    assert name == pseudonym(ours, "subject", "1234")
    assert name.startswith(key_mark(ours) + ".")
    assert len({name, pseudonym(ours, "study", "1234"), pseudonym(theirs, "subject", "1234")}) == 3
    expected = hmac.new(ours, b"subject\x001234", hashlib.sha256).hexdigest()[:16]
    assert name.partition(".")[2] == expected
    assert pseudonym(ours, "subject", b"caf\xe9".decode("utf-8", "surrogateescape"))  # a folder's name in Latin-1
