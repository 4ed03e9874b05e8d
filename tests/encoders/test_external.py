"""Encoders that are not ours: what they get, what they may give, and what is said when they give something else."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from toolkit import load_encoder
from toolkit.encoders.external import BATCH_SIZE, FunctionEncoder, StoredEmbeddings, own_digest, sample_ids
from toolkit.encoders.named import named_function
from toolkit.errors import ConfigError, DataError

MODULE = """
import numpy as np
import torch

sizes = []


def moments(patches):
    sizes.append(len(patches))
    assert isinstance(patches, np.ndarray) and patches.dtype == np.float32
    return torch.from_numpy(np.stack([patches.mean((1, 2, 3, 4)), patches.std((1, 2, 3, 4))], 1)).requires_grad_()


def lengths(texts):
    return [[len(text), 1.0] for text in texts]


class Model:
    def __init__(self, value):
        self.value = value

    def __call__(self, x):
        return np.zeros((len(x), 2))

    def digest(self):
        return self.value


one, same, another, nothing = Model("revision 1"), Model("revision 1"), Model("revision 2"), Model(None)
moments.digest = "weights 1"
constant = 3
flat = lambda x: np.zeros(len(x))
few = lambda x: np.zeros((len(x) - 1, 2))
words = lambda x: [["a"] for _ in x]
growing = lambda x: np.zeros((len(x), len(x)))


def broken(x):
    rows = np.zeros((len(x), 2))
    rows[1] = np.nan
    return rows
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working folder."""
    (tmp_path / "made_up_model.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield "made_up_model"
    sys.modules.pop("made_up_model", None)


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng([1]).random((BATCH_SIZE + 3, 1, 4, 4, 4)).astype(np.float32)


def write(path: Path, ids: list[str], rows: list[list[float] | None]) -> Path:
    pq.write_table(pa.table({"id": ids, "embedding": rows}), path)
    return path


def test_a_function_of_the_working_folder_is_an_encoder(module: str, patches: np.ndarray) -> None:
    encoder = load_encoder(f"{module}:moments")
    embedded = encoder.embed(patches)
    assert embedded.dtype == np.float32
    expected = np.stack([patches.mean((1, 2, 3, 4)), patches.std((1, 2, 3, 4))], axis=1)
    np.testing.assert_allclose(embedded, expected, atol=1e-6)
    assert sys.modules[module].sizes == [BATCH_SIZE, 3]
    assert str(Path.cwd()) not in sys.path
    assert not torch.from_numpy(embedded).requires_grad


def test_texts_go_to_a_function_as_a_list(module: str) -> None:
    assert load_encoder(f"{module}:lengths").embed(["a", "bcd"]).tolist() == [[1, 1], [3, 1]]


def test_the_digest_changes_with_the_source_and_the_weights(module: str) -> None:
    first = FunctionEncoder(f"{module}:moments").digest
    assert first != FunctionEncoder(f"{module}:lengths").digest
    sys.modules[module].moments.digest = "weights 2"
    second = FunctionEncoder(f"{module}:moments").digest
    Path("made_up_model.py").write_text(MODULE + "\n", encoding="utf-8")
    third = FunctionEncoder(f"{module}:moments").digest
    assert len({first, second, third}) == 3


FIRST = """
from __future__ import annotations
import dataclasses

@dataclasses.dataclass
class Row:
    value: float

def factor():
    return 2

def rows(x):
    return [[Row(factor() * value).value] for value in x]
"""
SECOND = FIRST.replace("return 2", "return 3")  # as long, so that bytecode of the same second would pass for its


@pytest.fixture
def first(module: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's file with `FIRST`, which the program can import and reload by itself."""
    monkeypatch.syspath_prepend(Path.cwd())
    path = Path(f"{module}.py")
    path.write_text(FIRST, encoding="utf-8")
    return path


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("imported", [False, True])
def test_what_was_rewritten_runs_anew_under_a_digest_of_its_own(
    module: str, first: Path, imported: bool, reloaded: bool
) -> None:
    """Whether or not the program imported the old code by itself, and reloads it."""
    stamp = first.stat().st_mtime_ns
    if imported:
        importlib.import_module(module)
    old = FunctionEncoder(f"{module}:rows")
    first.write_text(SECOND, encoding="utf-8")
    os.utime(first, ns=(stamp, stamp))
    if reloaded:
        importlib.reload(sys.modules[module])
    new = FunctionEncoder(f"{module}:rows")
    assert old.digest != new.digest
    assert new.embed([1.0, 2.0]).tolist() == [[3], [6]]
    first.write_text(FIRST, encoding="utf-8")
    again = FunctionEncoder(f"{module}:rows")
    assert again.digest == old.digest and again.embed([1.0]).tolist() == [[2]]
    importlib.reload(sys.modules[module])  # the program's own import is still there


def test_code_that_was_imported_before_it_was_rewritten_is_not_taken_for_the_files(module: str, first: Path) -> None:
    old = importlib.import_module(module)
    first.write_text(SECOND, encoding="utf-8")
    assert FunctionEncoder(f"{module}:rows").embed([1.0]).tolist() == [[3]]
    assert sys.modules[module] is old and old.rows([1.0]) == [[2]]


def test_an_encoder_whose_module_was_reloaded_gives_no_new_rows_under_its_old_digest(module: str, first: Path) -> None:
    encoder = FunctionEncoder(f"{module}:rows")
    first.write_text(SECOND, encoding="utf-8")
    importlib.reload(sys.modules[module])
    with pytest.raises(ConfigError, match=r"made_up_model:rows: its module was reloaded .*; open it again"):
        encoder.embed([1.0])
    assert FunctionEncoder(f"{module}:rows").embed([1.0]).tolist() == [[3]]


def test_code_that_was_reloaded_is_not_taken_for_what_was_opened_before(module: str, first: Path) -> None:
    FunctionEncoder(f"{module}:rows")
    first.write_text(SECOND, encoding="utf-8")
    importlib.reload(sys.modules[module])
    first.write_text(FIRST, encoding="utf-8")
    assert FunctionEncoder(f"{module}:rows").embed([1.0]).tolist() == [[2]]


def test_weights_that_a_module_reads_when_it_runs_are_read_anew(module: str) -> None:
    Path(f"{module}.py").write_text("value = float(open('weights.txt').read())\nrows = lambda x: [[value] for _ in x]")
    for number in (1, 2):
        Path("weights.txt").write_text(str(number))
        assert FunctionEncoder(f"{module}:rows", [Path("weights.txt")]).embed(["a"]).tolist() == [[number]]


def test_the_same_content_runs_once(module: str) -> None:
    one, other = FunctionEncoder(f"{module}:moments"), FunctionEncoder(f"{module}:moments")
    assert one.function is other.function and one.digest == other.digest


def test_code_of_another_folder_is_not_taken_for_this_ones(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same content: what it reads beside itself differs."""
    here = FunctionEncoder(f"{module}:moments").function
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / f"{module}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "there")
    sys.modules.pop(module)
    there = FunctionEncoder(f"{module}:moments").function
    assert there is not here and there.__globals__["__file__"] != here.__globals__["__file__"]  # type: ignore[attr-defined]


def test_a_package_that_changed_since_it_was_imported_is_refused(module: str) -> None:
    Path("made_up_package").mkdir()
    path = Path("made_up_package/__init__.py")
    path.write_text("from . import below\nrows = lambda x: [[below.VALUE] for _ in x]\n", encoding="utf-8")
    Path("made_up_package/below.py").write_text("VALUE = 2\ndef rows(x): return [[VALUE] for _ in x]\n")
    importlib.invalidate_caches()
    try:
        for name in ("made_up_package:rows", "made_up_package.below:rows"):
            assert FunctionEncoder(name).embed(["a"]).tolist() == [[2]]
        path.write_text(path.read_text().replace("VALUE]", "VALUE + 1]"), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"made_up_package: .*__init__\.py was changed .*; begin a new process"):
            FunctionEncoder("made_up_package:rows")
        Path("made_up_package/below.py").write_text("def rows(x): return [[4] for _ in x]\n")
        assert FunctionEncoder("made_up_package.below:rows").embed(["a"]).tolist() == [[4]]
    finally:
        for name in [name for name in sys.modules if name.startswith("made_up_package")]:
            del sys.modules[name]


def test_a_module_that_breaks_leaves_none_of_itself(module: str) -> None:
    Path(f"{module}.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        FunctionEncoder(f"{module}:rows")
    assert module not in sys.modules


def test_a_digest_may_be_a_method_and_is_no_address(module: str) -> None:
    digests = [FunctionEncoder(f"{module}:{name}").digest for name in ("one", "another")]
    assert len(set(digests)) == 2
    Path(f"{module}.py").touch()
    sys.modules.pop(module)
    named_function.__globals__["_RUNNING"].clear()  # as in another process, where all lies elsewhere
    assert [FunctionEncoder(f"{module}:{name}").digest for name in ("one", "another")] == digests
    assert own_digest(sys.modules[module].one, "one") == own_digest(sys.modules[module].same, "same") == "revision 1"
    with pytest.raises(ConfigError, match="made_up_model:nothing: its digest is a NoneType; make it a text or a num"):
        FunctionEncoder(f"{module}:nothing")


def test_a_folder_of_weights_without_files_is_refused(module: str, tmp_path: Path) -> None:
    (tmp_path / "weights/empty").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"weights: .*weights: holds no file; name the folder that the function re"):
        FunctionEncoder(f"{module}:lengths", [tmp_path / "weights"])


def test_the_digest_changes_with_the_files_that_the_function_reads(module: str, tmp_path: Path) -> None:
    def digest(*names: str) -> str:
        return FunctionEncoder(f"{module}:lengths", [tmp_path / name for name in names]).digest

    (tmp_path / "weights.bin").write_bytes(b"1")
    (tmp_path / "model/shards").mkdir(parents=True)
    for name in ("model/shards/a.bin", "model/a.bin"):
        (tmp_path / name).write_text(name)
    seen = [digest(), digest("weights.bin"), digest("weights.bin", "model")]
    (tmp_path / "weights.bin").write_bytes(b"2")
    seen += [digest("weights.bin"), digest("model")]
    (tmp_path / "model/a.bin").rename(tmp_path / "model/b.bin")
    seen.append(digest("model"))
    (tmp_path / "model").rename(tmp_path / "moved")
    assert len(set(seen)) == len(seen) and digest("moved") == seen[-1]
    with pytest.raises(ConfigError, match=r"weights: .*model: No such file or directory; name files or folders"):
        digest("model")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "put no_such_module.py into the working folder"),
        ("made_up_model:constant", "no function 'constant'; it has Model, another, broken"),
        ("made_up_model:momentz", "no function 'momentz'"),
        (":f", "module:function"),
    ],
)
def test_names_of_nothing_are_refused(module: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FunctionEncoder(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("flat", r"flat: embeddings of shape \(64,\) where \(64, D\) was expected"),
        ("few", r"few: embeddings of shape \(63, 2\) where \(64, D\)"),
        ("words", "words: gave something that is no array of numbers"),
        ("growing", "growing: rows of 3 numbers after rows of 64"),
        ("broken", r"broken: 1 embeddings with values that are not finite \(rows 1\)"),
    ],
)
def test_what_a_function_may_not_give(module: str, patches: np.ndarray, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_encoder(f"{module}:{function}").embed(patches)


def test_stored_embeddings_are_found_by_what_a_sample_holds(patches: np.ndarray, tmp_path: Path) -> None:
    rows = np.random.default_rng([2]).random((len(patches), 5)).astype(np.float32)
    order = np.random.default_rng([3]).permutation(len(patches))
    ids = sample_ids(patches)
    path = write(tmp_path / "rows.parquet", [ids[i] for i in order], rows[order].tolist())
    encoder = load_encoder(path)
    np.testing.assert_array_equal(encoder.embed(patches[5:1:-1].copy()), rows[5:1:-1])
    np.testing.assert_array_equal(encoder.embed(patches.astype(np.float64)), rows)  # the same values
    assert encoder.embed(patches[:0]).shape == (0, 5)


def test_ids_tell_contents_and_shapes_apart_and_nothing_else(patches: np.ndarray) -> None:
    assert len(set(sample_ids(patches))) == len(patches)
    assert sample_ids(np.zeros((1, 1, 2, 2, 4))) != sample_ids(np.zeros((1, 1, 4, 2, 2)))
    assert sample_ids(["a", "b", "a"])[0] == sample_ids(["a"])[0] != sample_ids(["b"])[0]
    assert all(len(name) == 16 for name in sample_ids(patches))


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (["a", "b", "a"], [[1.0], [2.0], [3.0]], r"id: 1 come more than once \(a\)"),
        (["a", "b"], [[1.0], [2.0, 3.0]], r"embedding: rows of several lengths \(1, 2\)"),
        (["a", "b"], [[1.0], None], "embedding: rows of several lengths"),
        (["a", "b"], [[1.0], [float("nan")]], r"1 embeddings with values that are not finite \(rows 1\)"),
        (["a"], [[]], "embeddings of shape"),
    ],
)
def test_tables_that_cannot_be_used(ids: list[str], rows: list, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"rows.parquet: {message}"):
        StoredEmbeddings(write(tmp_path / "rows.parquet", ids, rows))


def test_samples_without_a_row_are_counted(patches: np.ndarray, tmp_path: Path) -> None:
    ids = sample_ids(patches)
    path = write(tmp_path / "rows.parquet", ids[:-2], [[1.0]] * (len(ids) - 2))
    with pytest.raises(DataError, match=r"2 of 67 samples have no row \(.*\); write the samples anew"):
        StoredEmbeddings(path).embed(patches)


def test_other_files_are_no_embeddings(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("id,embedding\n")
    pq.write_table(pa.table({"id": ["a"], "vector": [[1.0]]}), tmp_path / "column.parquet")
    for name in ("absent.parquet", "text.parquet", "column.parquet"):
        with pytest.raises(DataError, match=f"{name}: cannot be read .* the columns id and embedding") as error:
            load_encoder(tmp_path / name)
        assert "\n" not in str(error.value)
