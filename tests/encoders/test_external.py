"""Encoders that are not ours: what they get, what they may give, and what is said when they give something else."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from toolkit import load_encoder
from toolkit.encoders.external import BATCH_SIZE, FunctionEncoder, StoredEmbeddings, sample_ids
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
        ("made_up_model:constant", "no function 'constant'; it has broken, few, flat"),
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
