import pytest
import torch

from toolkit.objectives import build_objective
from toolkit.objectives.halves import HalvesConfig, split_in_halves

from .examples import example_batch, example_encoder

IDS = torch.tensor([[2, 10, 11, 12, 13, 14, 3, 0, 0], [2, 20, 21, 22, 23, 24, 25, 26, 3]])


def coins(ids: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed))


def test_every_token_is_in_one_half_in_order() -> None:
    for seed in range(20):
        halves = split_in_halves(IDS, coins(IDS, seed), 2, 3, 0)
        for row, text in enumerate(IDS):
            parts = [half["input_ids"][row][half["input_ids"][row] > 4].tolist() for half in halves]
            assert sorted(parts[0] + parts[1]) == text[text > 4].tolist()
            assert all(part == sorted(part) for part in parts)
            assert all(half["input_ids"][row, 0] == 2 for half in halves)


def test_a_coin_below_a_half_deals_its_token_to_the_first_half() -> None:
    ids = torch.tensor([[2, 10, 11, 12, 3, 0]])
    first, second = split_in_halves(ids, torch.tensor([[0.9, 0.1, 0.5, 0.49, 0.1, 0.1]]), 2, 3, 0)
    assert first["input_ids"].tolist() == [[2, 10, 12]] and second["input_ids"].tolist() == [[2, 11]]
    assert first["attention_mask"].tolist() == [[1, 1, 1]]


def test_the_loss_is_a_function_of_the_batch_alone() -> None:
    objective, batch = build_objective(HalvesConfig(), example_encoder("text")), example_batch("text")
    first, again = (objective(batch).loss_sum.item() for _ in range(2))
    other = objective(batch | {"coins": 1 - batch["coins"].roll(1, dims=0)}).loss_sum.item()
    assert first == again != other


@pytest.mark.parametrize("frozen", [True, False])
def test_embeddings_are_frozen_on_demand(frozen: bool) -> None:
    objective = build_objective(HalvesConfig(freeze_embeddings=frozen), example_encoder("text"))
    objective(example_batch("text")).loss_sum.backward()
    embeddings = objective.encoder.model.get_input_embeddings().weight
    assert (embeddings.grad is None) == frozen


def test_the_loss_is_that_of_pairs_among_all_halves() -> None:
    objective = build_objective(HalvesConfig(temperature=0.5), example_encoder("text")).eval()
    batch = example_batch("text")
    step = objective(batch)
    z = torch.cat(objective.embed(batch)).double()
    similar = (z @ z.T / 0.5).exp()
    partner = (torch.arange(16) + 8) % 16
    others = similar.sum(1) - similar.diagonal()
    expected = -(similar[torch.arange(16), partner] / others).log().sum()
    assert step.loss_sum.item() == pytest.approx(expected.item(), rel=1e-4)
    assert step.count == 16
