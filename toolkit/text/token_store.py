"""A corpus as token ids: tokenised once, kept in flat files, mapped into memory."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock

from toolkit.console import log, track
from toolkit.errors import DataError
from toolkit.files import replace_folder, write_atomically
from toolkit.text.tokenizer import TextTokenizer

FORMAT = 1
"""Of the files: raised when what they hold, or mean, changes."""
INDEX, PROGRESS = "index.json", "progress.json"
PORTION_TEXTS, PORTION_CHARACTERS = 20_000, 4_000_000
"""What is in memory at a time, and what a kill can cost."""
PORTION_READ = 256
"""Texts that are read before it is asked whether they are a portion."""


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Texts as token ids, end to end, without start and end tokens.

    Attributes:
        tokens: All ids in a row; uint16 where the vocabulary allows it, else int32.
        offsets: Where each text begins, (N + 1,) int64.
        languages: Code of each text's language, (N,).
        language_names: Names of the codes.
        folder: Where its files lie; none for a store in memory.
        max_length: Tokens that its texts were cut to, start and end included; none where they are whole.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    languages: np.ndarray
    language_names: tuple[str, ...]
    folder: Path | None = None
    max_length: int | None = None

    @classmethod
    def build(
        cls, texts: Sequence[str], languages: Sequence[str] | np.ndarray, tokenizer: TextTokenizer, max_length: int
    ) -> Self:
        """A store in memory; texts longer than `max_length` tokens, start and end included, are cut up.

        Raises:
            DataError: No text has a token.
        """
        names: dict[str, int] = {}
        arrays = tokenizer.encode_arrays(texts)
        codes = [names.setdefault(language, len(names)) for language in languages]
        tokens = np.concatenate([np.empty(0, np.int32), *arrays]).astype(_id_type(len(tokenizer)))
        offsets = np.r_[0, np.cumsum([len(ids) for ids in arrays], dtype=np.int64)]
        whole = cls(tokens, offsets, np.array(codes, dtype=np.uint16), tuple(names))
        whole.refuse_empty()
        return whole.cut(max_length)

    @classmethod
    def write(
        cls, rows: Iterable[Sequence[Any]], tokenizer: TextTokenizer, folder: Path, *, num_threads: int | None = None
    ) -> Self:
        """Tokenises a stream of texts into `folder`, or opens what is there already.

        A portion of texts is in memory at a time. Killed, the same call goes on: texts that were done are read again
        and compared by digest, but not tokenised again.

        Args:
            rows: Text, language, and what else a row has, for each text, the same each time. Name the folder after
                the data and the tokenizer: a finished one is not compared with the rows.
            tokenizer: Makes the ids.
            folder: Of the store; only its owner may look into it.
            num_threads: Of SentencePiece; as many as there are cores if not given.

        Raises:
            DataError: No text has a token, or the folder holds the store of another tokenizer.
        """
        if not (folder / INDEX).is_file():
            partial = folder.with_name(f"{folder.name}.partial")
            partial.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):  # runs may share a folder of stores
                if not (folder / INDEX).is_file():
                    partial.mkdir(mode=0o700, exist_ok=True)
                    _Writer(partial, tokenizer, num_threads).write(rows)
                    replace_folder(partial, folder)
        store = cls.open(folder)
        if store.index["tokenizer"] != tokenizer.digest:
            raise DataError(f"{folder}: holds the ids of another tokenizer; delete it, or give another folder")
        store.refuse_empty()
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Maps the files of a finished store.

        Raises:
            DataError: There is none, or it is damaged.
        """
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            num_texts, num_tokens, id_type = index["texts"], index["tokens"], np.dtype(index["dtype"])
            names = tuple(index["languages"])
            damaged = index["format"] != FORMAT
            shapes = {"tokens": (num_tokens, id_type), "offsets": (num_texts + 1, np.int64)}
            shapes["languages"] = (num_texts, np.uint16)
            for name, (length, kind) in shapes.items():
                damaged |= (folder / f"{name}.bin").stat().st_size != length * np.dtype(kind).itemsize
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: no token store ({error}); delete the folder, it is made again") from None
        if damaged:
            raise DataError(f"{folder}: damaged, or of another version; delete the folder, it is made again")
        return cls(*(_mapped(folder / f"{name}.bin", *shape) for name, shape in shapes.items()), names, folder)

    def cut(self, max_length: int) -> Self:
        """The same tokens in texts of at most `max_length` tokens, start and end included; empty ones are gone."""
        assert self.max_length is None
        room = max_length - 2
        parts = -(-self.lengths // room)
        starts = np.append(np.repeat(self.offsets[:-1], parts), self.offsets[-1])
        within = np.arange(len(starts) - 1)  # in place: a corpus may have many millions of texts
        within -= np.repeat(np.cumsum(parts, dtype=np.int64) - parts, parts)
        within *= room
        starts[:-1] += within
        languages = np.repeat(self.languages, parts)
        return type(self)(self.tokens, starts, languages, self.language_names, self.folder, max_length)

    def __len__(self) -> int:
        return len(self.languages)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process go the name of the folder and the length, not the tokens."""
        if self.folder is None:
            return type(self), (self.tokens, self.offsets, self.languages, self.language_names, None, self.max_length)
        return _reopened, (type(self), self.folder, self.max_length)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each text, without start and end."""
        return np.diff(self.offsets).astype(np.int32)

    @property
    def index(self) -> dict[str, Any]:
        """What stands beside the files."""
        assert self.folder is not None
        return json.loads((self.folder / INDEX).read_text(encoding="utf-8"))

    def ids(self, row: int) -> np.ndarray:
        """The tokens of one text."""
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def sample(self, most: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Tokens and names of the language of at most so many texts, drawn at random, in their order."""
        rows = np.arange(len(self))
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        return [self.ids(row) for row in rows], np.array(self.language_names, dtype=object)[self.languages[rows]]

    def refuse_empty(self) -> None:
        """Raises DataError where there is no token."""
        if not len(self.tokens):
            raise DataError("the corpus is empty: no text to pretrain on")


class _Writer:
    """Appends portions to the files of a store that is not finished.

    Progress is written after each portion; what files hold beyond it, after a kill, is cut off.
    """

    def __init__(self, folder: Path, tokenizer: TextTokenizer, num_threads: int | None) -> None:
        self.folder, self.tokenizer, self.num_threads = folder, tokenizer, num_threads
        self.id_type = _id_type(len(tokenizer))
        self.fresh = {"format": FORMAT, "tokenizer": tokenizer.digest, "dtype": np.dtype(self.id_type).name}
        self.state = self._earlier() or self._nothing()

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Goes through all rows, and writes the index at the end."""
        seen, done = hashlib.blake2b(digest_size=16), self.state["portions"]
        if done:
            log.info("tokenising: %s texts are done, they are read again and skipped", f"{self.state['texts']:,}")
        for number, portion in enumerate(track(_portions(rows), "tokenising", status=self._status)):
            for text, language, *_ in portion:
                seen.update(f"{len(text)} {language} {text}".encode("utf-8", "surrogatepass"))
            if number == done - 1:
                self._refuse_others(seen.hexdigest())
            if number >= done:
                self._append(portion)
                self.state |= {"portions": number + 1, "seen": seen.hexdigest()}
                write_atomically(self.folder / PROGRESS, json.dumps(self.state).encode())
        self._refuse_others(seen.hexdigest())  # also fewer texts than were done
        write_atomically(self.folder / INDEX, json.dumps(self.state, ensure_ascii=False, indent=2).encode())
        (self.folder / PROGRESS).unlink(missing_ok=True)

    def _refuse_others(self, seen: str) -> None:
        if seen != self.state["seen"]:
            raise DataError(f"{self.folder}: was begun with other texts; delete it")

    def _append(self, portion: list[Sequence[Any]]) -> None:
        arrays = self.tokenizer.encode_arrays([row[0] for row in portion], num_threads=self.num_threads)
        names = {name: code for code, name in enumerate(self.state["languages"])}
        codes = np.array([names.setdefault(row[1], len(names)) for row in portion], dtype=np.uint16)
        ends = self.state["tokens"] + np.cumsum([len(ids) for ids in arrays], dtype=np.int64)
        tokens = np.concatenate([np.empty(0, np.int32), *arrays]).astype(self.id_type)
        for name, array in (("tokens", tokens), ("offsets", ends), ("languages", codes)):
            with (self.folder / f"{name}.bin").open("ab") as file:
                file.write(array.tobytes())
                file.flush()
                os.fsync(file.fileno())
        self.state["languages"] = list(names)
        self.state["texts"] += len(portion)
        self.state["tokens"] += len(tokens)

    def _nothing(self) -> dict[str, Any]:
        for name, content in (("tokens", b""), ("offsets", np.int64(0).tobytes()), ("languages", b"")):
            (self.folder / f"{name}.bin").write_bytes(content)
        nothing = hashlib.blake2b(digest_size=16).hexdigest()
        return self.fresh | {"portions": 0, "texts": 0, "tokens": 0, "languages": [], "seen": nothing}

    def _earlier(self) -> dict[str, Any] | None:
        """What an earlier process left, with its files cut to what it had written down."""
        try:
            state: dict[str, Any] = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
            if any(state.get(name) != value for name, value in self.fresh.items()):
                return None
            sizes = {"tokens": state["tokens"] * np.dtype(self.id_type).itemsize, "languages": state["texts"] * 2}
            for name, size in (sizes | {"offsets": (state["texts"] + 1) * 8}).items():
                path = self.folder / f"{name}.bin"
                if path.stat().st_size < size:
                    return None
                with path.open("r+b") as file:
                    file.truncate(size)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state

    def _status(self) -> str:
        return f"{self.state['texts']:,} texts, {self.state['tokens']:,} tokens"


def _portions(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    stream, portion, characters = iter(rows), [], 0
    while batch := list(islice(stream, PORTION_READ)):
        portion += batch
        characters += sum(len(row[0]) for row in batch)
        if len(portion) >= PORTION_TEXTS or characters >= PORTION_CHARACTERS:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _id_type(vocab_size: int) -> type[np.uint16] | type[np.int32]:
    return np.uint16 if vocab_size <= 2**16 else np.int32


def _mapped(path: Path, length: int, kind: Any) -> np.ndarray:
    return np.memmap(path, dtype=kind, mode="r", shape=(length,)) if length else np.empty(0, kind)


def _reopened(cls: type[TokenStore], folder: Path, max_length: int | None) -> TokenStore:
    store = cls.open(folder)
    return store.cut(max_length) if max_length else store
