"""Which cells are hidden, how volumes are cut into cells, and what the loss comes to."""

import numpy as np
import pytest
import torch

from toolkit.errors import ConfigError
from toolkit.objectives.masking import of_cells, reconstruction_loss, split_cells, to_cells


def splitmix(state: int) -> int:
    """The finaliser of splitmix64 on Python's integers."""
    state &= 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return state ^ (state >> 31)


def signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


@pytest.mark.parametrize("draw", [0, 1, -1, 2**53 - 1, 1234567890123])
def test_cells_are_ordered_by_splitmix(draw: int) -> None:
    key = splitmix(draw)
    numbers = [signed(splitmix(key + (cell + 1) * 0x9E3779B97F4A7C15)) for cell in range(20)]
    hidden, visible = split_cells(torch.tensor([draw]), 20, 0.6)
    assert torch.cat([hidden, visible], dim=1)[0].tolist() == np.argsort(numbers).tolist()
    assert hidden.shape == (1, 12) and visible.shape == (1, 8)


def test_a_mask_depends_on_its_own_sample_alone() -> None:
    draws = torch.tensor([5, 7, 9, 11])
    whole = torch.cat(split_cells(draws, 64, 0.75), dim=1)
    parts = [torch.cat(split_cells(part, 64, 0.75), dim=1) for part in draws.chunk(2)]
    assert torch.equal(whole, torch.cat(parts))
    assert len({tuple(row) for row in whole.tolist()}) == 4


def test_each_cell_is_hidden_as_often_as_the_others_and_with_each_other() -> None:
    """Of neighbouring numbers, as counters give them: 20,000 masks of 8 cells, half of them hidden."""
    num = 20_000
    hidden, _ = split_cells(torch.arange(num), 8, 0.5)
    mask = torch.zeros(num, 8, dtype=torch.float64).scatter_(1, hidden, 1)
    assert (mask.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / num**0.5
    together = mask.T @ mask / num
    expected = 0.5 * 3 / 7  # of two different cells
    off_diagonal = together[~torch.eye(8, dtype=torch.bool)]
    assert (off_diagonal - expected).abs().max() < 5 * (expected * (1 - expected) / num) ** 0.5
    followed = mask[:-1].T @ mask[1:] / (num - 1)  # by the next number's mask
    assert (followed - 0.25).abs().max() < 5 * (0.25 * 0.75 / num) ** 0.5


@pytest.mark.parametrize(
    ("num_cells", "ratio", "num_hidden"), [(2, 0.01, 1), (2, 0.99, 1), (27, 0.75, 20), (8, 0.6, 5)]
)
def test_something_is_hidden_and_something_is_not(num_cells: int, ratio: float, num_hidden: int) -> None:
    assert split_cells(torch.arange(3), num_cells, ratio)[0].shape == (3, num_hidden)


def test_one_cell_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^views\.patch_size: .*larger$"):
        split_cells(torch.arange(3), 1, 0.5)


def test_cells_are_blocks_of_the_volume_in_c_order() -> None:
    volumes = torch.randn(2, 3, 4, 6, 10)
    found = to_cells(volumes, (2, 3, 5)).numpy()
    assert found.shape == (2, 8, 90)
    blocks = [
        volumes[:, :, i : i + 2, j : j + 3, k : k + 5].numpy().reshape(2, -1)
        for i in (0, 2)
        for j in (0, 3)
        for k in (0, 5)
    ]
    np.testing.assert_array_equal(found, np.stack(blocks, axis=1))
    chosen = torch.tensor([[7, 0], [3, 3]])
    expected = np.stack([found[b][chosen[b].numpy()] for b in range(2)])
    np.testing.assert_array_equal(of_cells(torch.from_numpy(found), chosen).numpy(), expected)


def test_constants_of_the_loss() -> None:
    target = torch.randn(50, 9, dtype=torch.float64)
    assert reconstruction_loss(torch.zeros_like(target), target).item() == pytest.approx(8 / 9, rel=1e-4)
    air = torch.full((50, 9), 0.3)
    assert reconstruction_loss(torch.zeros_like(air), air).item() == pytest.approx(0, abs=1e-6)
    right = (target - target.mean(1, keepdim=True)) / (target.var(1, keepdim=True) + 1e-6).sqrt()
    assert reconstruction_loss(right, target).item() == pytest.approx(0, abs=1e-20)
    brighter = reconstruction_loss(right, 5 * target + 3)  # neither brightness nor contrast counts
    assert brighter.item() == pytest.approx(0, abs=1e-10)
    assert reconstruction_loss(target, target + 2, normalize_targets=False).item() == pytest.approx(4)
