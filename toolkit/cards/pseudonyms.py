"""Pseudonyms, and the secret that makes them: the one place where people's numbers become names of nobody.

A plain digest of a patient number is no secret: there are few numbers, so that all of them can be tried. With a
key that stays on the machine, whoever gets results or an encoder cannot try them. One key serves a data root, so that
the same person has the same pseudonym in every manifest and corpus that is made there.
"""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from filelock import FileLock

from toolkit.cards.fetch import data_root, disk_errors
from toolkit.errors import DataError, DiskError

KEY_FILE = ".key"
KEY_BYTES = 32


def pseudonym_key(root: str | Path | None = None) -> bytes:
    """The secret of this data root; drawn on first use, and the same ever after.

    Args:
        root: See `data_root`.

    Raises:
        DataError: The file is no key.
        DiskError: The folder cannot be written.
    """
    path = data_root(root) / KEY_FILE
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f"{KEY_FILE}.lock")):
                if not path.exists():
                    _create(path)
            key = path.read_bytes()
    except OSError as error:  # a place where no folder can be
        raise DiskError(
            f"{path.parent}: cannot be written ({error.strerror}); set FEWLABEL_DATA to a folder of yours"
        ) from None
    if len(key) != KEY_BYTES:
        raise DataError(f"{path}: is not a key of {KEY_BYTES} bytes; restore it, or delete it for new pseudonyms")
    return key


def pseudonym(key: bytes, *identity: str) -> str:
    """A stable name that says nothing about `identity` without the key: the key's mark, a dot, 16 hex digits.

    Args:
        key: From `pseudonym_key`.
        identity: What is hidden, with what tells its kind or source apart: ("subject", "1234"). Names of files that
            are no UTF-8 may be among it.
    """
    digest = hmac.digest(key, "\0".join(identity).encode("utf-8", "surrogateescape"), "sha256")
    return f"{key_mark(key)}.{digest.hex()[:16]}"


def is_pseudonym(text: str) -> bool:
    """Whether `text` looks like what `pseudonym` gives."""
    return re.fullmatch(r"[0-9a-f]{8}\.[0-9a-f]{16}", text) is not None


def key_mark(key: bytes) -> str:
    """8 hex digits that tell keys apart and give nothing of them away; every pseudonym begins with its key's."""
    return hashlib.sha256(b"mark of a pseudonym key" + key).hexdigest()[:8]


def _create(path: Path) -> None:
    partial = path.with_name(f"{KEY_FILE}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed; the lock is ours
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    partial.replace(path)
