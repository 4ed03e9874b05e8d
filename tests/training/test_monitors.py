"""Collapse monitors against their closed forms and independent float64 NumPy, in every type that training has."""

import math

import numpy as np
import pytest
import torch

from toolkit.training import alignment, effective_rank, embedding_std, uniformity
from toolkit.training.monitors import MAX_ROWS, teacher_entropy

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_embeddings(num: int, dim: int, seed: int = 0) -> np.ndarray:
    """Anisotropic and off the origin, as real ones are."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, dim)) * np.linspace(0.1, 2, dim) + rng.normal(size=dim)


def numpy_monitors(a: np.ndarray) -> dict[str, float]:
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    share = np.linalg.svd(a - a.mean(0), compute_uv=False)
    share = share[share > 1e-9 * share[0]] / share.sum()
    squared = ((unit[:, None] - unit[None]) ** 2).sum(-1)[np.triu_indices(len(a), 1)]
    return {
        "embedding_std": unit.std(0).mean() * a.shape[1] ** 0.5,
        "effective_rank": np.exp(-(share * np.log(share)).sum()),
        "uniformity": np.log(np.exp(-2 * squared).mean()),
    }


def monitors(a: torch.Tensor) -> dict[str, float]:
    return {f.__name__: f(a).item() for f in (embedding_std, effective_rank, uniformity)}


def test_all_show_exact_collapse() -> None:
    collapsed = torch.ones(32, 8)
    assert embedding_std(collapsed).item() == pytest.approx(0, abs=1e-9)
    assert effective_rank(collapsed).item() == 0
    assert uniformity(collapsed).item() == pytest.approx(0, abs=1e-6)
    assert alignment(collapsed, 3 * collapsed).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_alone_has_no_rank(dtype: torch.dtype) -> None:
    one = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    eps = torch.finfo(dtype).eps
    assert effective_rank((one * (1 + eps * noise)).to(dtype)).item() == 0
    assert effective_rank((one * (1 + 50 * eps * noise)).to(dtype)).item() > 10


def test_spread_of_an_isotropic_cloud_is_one() -> None:
    cloud = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert embedding_std(cloud).item() == pytest.approx(1, abs=0.01)


def test_effective_rank_counts_equal_directions() -> None:
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(corners).item() == pytest.approx(5)


@pytest.mark.parametrize("shape", [(12, 4), (4, 12), (2, 3), (40, 40)])
def test_all_match_numpy(shape: tuple[int, int]) -> None:
    a, b = random_embeddings(*shape), random_embeddings(*shape, seed=1)
    assert monitors(torch.tensor(a)) == pytest.approx(numpy_monitors(a), rel=1e-5, abs=1e-7)
    a_unit, b_unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    assert alignment(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(((a_unit - b_unit) ** 2).sum(1).mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_are_widened_first(dtype: torch.dtype, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a = torch.tensor(random_embeddings(20, 8)).to(device, dtype)
    b = torch.tensor(random_embeddings(20, 8, seed=1)).to(device, dtype)
    assert monitors(a) == pytest.approx(numpy_monitors(a.double().cpu().numpy()), rel=1e-5)
    assert alignment(a, b).item() == pytest.approx(alignment(a.double(), b.double()).item(), rel=1e-5)
    assert alignment(a, b).device.type == device  # asked for at each step, so it must not wait for the device


def test_of_many_rows_evenly_spaced_ones_are_looked_at() -> None:
    a = np.sort(random_embeddings(3 * MAX_ROWS, 4), axis=0)  # sorted, so that the first rows say little of the rest
    assert monitors(torch.tensor(a)) == pytest.approx(numpy_monitors(a[::3]), rel=1e-5)
    assert monitors(torch.tensor(a)) == pytest.approx(numpy_monitors(a), rel=0.02)


def test_a_single_embedding_gives_numbers() -> None:
    assert monitors(torch.ones(1, 4)) == {"embedding_std": 0, "effective_rank": 0, "uniformity": 0}


def test_teacher_entropy_matches_numpy() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = teacher_entropy(torch.tensor(probabilities))
    mean = probabilities.mean(0)
    assert found.of_samples.item() == pytest.approx(
        -(probabilities * np.log(probabilities)).sum(1).mean() / math.log(6)
    )
    assert found.of_mean.item() == pytest.approx(-(mean * np.log(mean)).sum() / math.log(6))


@pytest.mark.parametrize(
    ("probabilities", "of_samples", "of_mean"),
    [
        (torch.eye(8), 0.0, 1.0),  # certain, and every output is used: healthy
        (torch.eye(8)[:1].expand(8, 8), 0.0, 0.0),  # one output for all
        (torch.full((8, 8), 1 / 8), 1.0, 1.0),  # all outputs for each
        (torch.eye(8, dtype=torch.bfloat16), 0.0, 1.0),
    ],
)
def test_teacher_entropy_tells_both_collapses_apart(
    probabilities: torch.Tensor, of_samples: float, of_mean: float
) -> None:
    assert [value.item() for value in teacher_entropy(probabilities)] == pytest.approx([of_samples, of_mean], abs=1e-6)
