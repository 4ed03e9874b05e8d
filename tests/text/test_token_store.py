import json
import os
import pickle
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.text import token_store
from toolkit.text.token_store import TokenStore
from toolkit.text.tokenizer import TextTokenizer, TokenizerConfig, train_tokenizer

Rows = list[tuple[str, str]]


@pytest.fixture
def rows(sample_texts: list[str], sample_languages: list[str]) -> Rows:
    return list(zip(sample_texts, sample_languages, strict=True))


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few texts are several portions."""
    monkeypatch.setattr(token_store, "PORTION_TEXTS", 20)
    monkeypatch.setattr(token_store, "PORTION_READ", 4)


class Killed(Exception):
    pass


def cut_off(rows: Rows, after: int) -> Iterator[tuple[str, str]]:
    yield from rows[:after]
    raise Killed


def same(one: TokenStore, other: TokenStore) -> bool:
    arrays = ("tokens", "offsets", "languages")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    return equal and one.language_names == other.language_names


def test_long_texts_are_cut_and_no_token_is_lost(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    long = " ".join(sample_texts)
    texts = [long, "", sample_texts[0]]
    store = TokenStore.build(texts, ["en", "sl", "xx"], tokenizer, max_length=16)
    assert store.lengths.max() == 14 and store.lengths.min() >= 1
    assert store.tokens.tolist() == list(chain.from_iterable(tokenizer.encode(texts)))
    assert list(chain.from_iterable(store.ids(row) for row in range(len(store)))) == store.tokens.tolist()
    assert (np.diff(store.languages.astype(int)) >= 0).all() and {*store.languages.tolist()} == {0, 2}
    assert store.language_names == ("en", "sl", "xx")


def test_an_empty_corpus(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        TokenStore.build([""], ["en"], tokenizer, max_length=16)
    for rows in ([], [("", "en")]):
        with pytest.raises(DataError, match="the corpus is empty"):
            TokenStore.write(rows, tokenizer, tmp_path / "store")


def test_a_stream_becomes_the_files_of_the_same_texts(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path) -> None:
    expected = TokenStore.build(*zip(*rows, strict=True), tokenizer, 64)  # type: ignore[arg-type]
    store = TokenStore.write(iter(rows), tokenizer, tmp_path / "store")
    assert isinstance(store.tokens, np.memmap) and store.tokens.dtype == np.uint16
    assert same(store.cut(64), expected) and store.max_length is None
    assert store.index["texts"] == len(rows)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(tmp_path / "store")) == ["index.json", "languages.bin", "offsets.bin", "tokens.bin"]


def test_texts_are_tokenised_once(
    tokenizer: TextTokenizer, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TokenStore.write(rows, tokenizer, tmp_path / "store")
    monkeypatch.setattr(type(tokenizer), "encode_arrays", None)
    assert same(TokenStore.write(cut_off(rows, 0), tokenizer, tmp_path / "store"), first)


def test_another_tokenizers_ids_are_refused(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path) -> None:
    TokenStore.write(rows, tokenizer, tmp_path / "store")
    other = train_tokenizer([text for text, _ in rows], TokenizerConfig(vocab_size=405), tmp_path / "other")
    with pytest.raises(DataError, match="holds the ids of another tokenizer"):
        TokenStore.write(rows, other, tmp_path / "store")


@pytest.mark.parametrize("after", [10, 20, 63, 111])
def test_a_killed_run_goes_on_with_what_is_done(
    tokenizer: TextTokenizer, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole = TokenStore.write(rows, tokenizer, tmp_path / "whole")
    with pytest.raises(Killed):
        TokenStore.write(cut_off(rows, after), tokenizer, tmp_path / "store")
    partial = tmp_path / "store.partial"
    with (partial / "tokens.bin").open("ab") as file:
        file.write(b"killed while it was writing")
    encode, seen = type(tokenizer).encode_arrays, []

    def counted(self: TextTokenizer, texts: list[str], num_threads: int | None = None) -> list[np.ndarray]:
        seen.extend(texts)
        return encode(self, texts, num_threads)

    monkeypatch.setattr(type(tokenizer), "encode_arrays", counted)
    assert same(TokenStore.write(rows, tokenizer, tmp_path / "store"), whole)
    assert len(seen) == len(rows) - after // 20 * 20 and not partial.exists()


def test_what_was_begun_with_other_texts_is_refused(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        TokenStore.write(cut_off(rows, 63), tokenizer, tmp_path / "store")
    changed = [("another text", "en"), *rows[1:]]
    with pytest.raises(DataError, match="was begun with other texts; delete it"):
        TokenStore.write(changed, tokenizer, tmp_path / "store")
    with pytest.raises(DataError, match="was begun with other texts; delete it"):
        TokenStore.write(rows[:10], tokenizer, tmp_path / "store")


@pytest.mark.parametrize("harm", ["cut", "version", "no index"])
def test_a_damaged_store_says_so(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "store"
    TokenStore.write(rows, tokenizer, folder)
    if harm == "cut":
        os.truncate(folder / "tokens.bin", 100)
    elif harm == "version":
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps(index | {"format": 0}))
    else:
        (folder / "index.json").unlink()
    with pytest.raises(DataError, match="delete the folder, it is made again"):
        TokenStore.open(folder)


def test_another_process_gets_the_files_not_the_tokens(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path) -> None:
    store = TokenStore.write(rows, tokenizer, tmp_path / "store").cut(16)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert same(again, store) and again.max_length == 16 and isinstance(again.tokens, np.memmap)


def test_a_sample_keeps_the_order(tokenizer: TextTokenizer, rows: Rows, tmp_path: Path) -> None:
    store = TokenStore.write(rows, tokenizer, tmp_path / "store")
    ids, languages = store.sample(1000, seed=0)
    assert len(ids) == len(rows) and languages.tolist() == [language for _, language in rows]
    few, _ = store.sample(5, seed=0)
    places = [next(row for row, one in enumerate(ids) if np.array_equal(one, text)) for text in few]
    assert places == sorted(places) and len(places) == 5


def test_what_another_process_finished_meanwhile_is_opened(
    rows: Rows, tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TokenStore.write(rows, tokenizer, tmp_path / "first")

    class Late(token_store.FileLock):
        def acquire(self, *args: object, **kwargs: object) -> object:
            shutil.copytree(tmp_path / "first", tmp_path / "second")
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(token_store, "FileLock", Late)
    monkeypatch.setattr(token_store._Writer, "write", None)
    assert same(TokenStore.write(rows, tokenizer, tmp_path / "second"), first)
