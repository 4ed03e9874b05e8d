"""The key of pseudonyms: drawn once, private, and never half there."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolkit.cards.pseudonyms import KEY_FILE, pseudonym_key
from toolkit.errors import DataError


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
