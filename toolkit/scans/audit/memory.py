"""What earlier audits read, so that the next one reads only what is new, changed or was refused. As private as they."""

import functools
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from toolkit.private import writing

_SAVE_EVERY_S = 2.0


class Memory:
    """Answers by question, in one SQLite file that a killed run leaves whole.

    Args:
        path: The file; one that is damaged or of another version is begun anew.

    Raises:
        DiskError: Here and from every method: the disk is full, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            try:
                self._open()
                self._connection.execute("SELECT count(*) FROM answers").fetchone()
            except sqlite3.OperationalError:  # the disk, not what the file holds
                raise
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                self._open()
        self._saved = time.monotonic()

    def _open(self) -> None:
        os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._connection = sqlite3.connect(self._path)
        self._connection.execute("PRAGMA auto_vacuum = FULL")  # a file shrinks with what it holds
        self._connection.execute("PRAGMA secure_delete = ON")  # what is deleted names people
        self._connection.execute("CREATE TEMP TABLE asked (number INTEGER PRIMARY KEY)")
        self._connection.execute("CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT)")

    def get(self, question: str) -> Any:
        """What was put, else None."""
        query = "SELECT rowid, answer FROM answers WHERE question = ?"
        row = self._connection.execute(query, (question,)).fetchone()
        if row is None:
            return None
        self._keep(row[0])
        return json.loads(row[1])

    def put(self, question: str, answer: Any) -> None:
        """Remembers; on the disk within two seconds."""
        values = (question, json.dumps(answer))
        with writing(self._path):
            put = self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", values)
            self._keep(put.lastrowid)
            if time.monotonic() - self._saved > _SAVE_EVERY_S:
                self._connection.commit()
                self._saved = time.monotonic()

    def forget_unasked(self) -> None:
        """Deletes what was neither asked for nor put since the start: of files that are gone, of code that was."""
        with writing(self._path):
            self._connection.execute("DELETE FROM answers WHERE rowid NOT IN (SELECT number FROM asked)")

    def _keep(self, number: int | None) -> None:
        with writing(self._path):
            self._connection.execute("INSERT OR IGNORE INTO asked VALUES (?)", (number,))

    def close(self) -> None:
        """Saves."""
        with writing(self._path), closing(self._connection):
            self._connection.commit()


def question(kind: str, files: Iterable[str]) -> str:
    """A question about files as they are now (path, size, time of the last change) to the code as it is now.

    Its digest: an audit holds one for each file that it found.
    """
    parts = [kind, _code()]
    for file in files:
        status = os.stat(file) if os.path.exists(file) else None  # gone meanwhile: its reader will say so
        parts.append(f"{file}\0{status.st_size}\0{status.st_mtime_ns}" if status else file)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


@functools.cache
def _code() -> str:
    """A digest of the code that reads: an answer of other code is none."""
    total = hashlib.sha256()
    for source in sorted([*Path(__file__).parent.parent.glob("*.py"), *Path(__file__).parent.glob("*.py")]):
        total.update(source.read_bytes())
    return total.hexdigest()[:16]
