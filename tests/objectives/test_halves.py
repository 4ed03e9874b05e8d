import pytest
import torch

from toolkit.objectives import build_objective
from toolkit.objectives.halves import HalvesConfig, split_in_halves

from .examples import example_batch, example_encoder

IDS = torch.tensor([[2, 10, 11, 12, 13, 14, 3, 0, 0], [2, 20, 21, 22, 23, 24, 25, 26, 3]])


def test_every_token_is_in_one_half_in_order() -> None:
    for seed in range(20):
        halves = split_in_halves(IDS, torch.Generator().manual_seed(seed))
        for row, text in enumerate(IDS):
            parts = [half[row][half[row] > 4].tolist() for half in halves]
            assert sorted(parts[0] + parts[1]) == text[text > 4].tolist()
            assert all(part == sorted(part) for part in parts)
            assert all(half[row, 0] == 2 for half in halves)


def test_halves_are_drawn_anew_and_replay() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        return list(split_in_halves(IDS.repeat(8, 1), torch.Generator().manual_seed(seed)))

    assert all(torch.equal(one, other) for one, other in zip(drawn(0), drawn(0), strict=True))
    assert drawn(0)[0].shape != drawn(1)[0].shape or not torch.equal(drawn(0)[0], drawn(1)[0])


@pytest.mark.parametrize("frozen", [True, False])
def test_embeddings_are_frozen_on_demand(frozen: bool) -> None:
    objective = build_objective(HalvesConfig(freeze_embeddings=frozen), example_encoder("text"))
    objective(example_batch("text")).loss_sum.backward()
    embeddings = objective.encoder.model.get_input_embeddings().weight
    assert (embeddings.grad is None) == frozen


def test_the_loss_is_that_of_pairs_among_all_halves() -> None:
    objective = build_objective(HalvesConfig(temperature=0.5), example_encoder("text")).eval()
    batch = example_batch("text")
    torch.manual_seed(0)
    step = objective(batch)
    torch.manual_seed(0)
    z = torch.cat([objective._embedded(half) for half in split_in_halves(batch["clean_ids"])]).double()
    similar = (z @ z.T / 0.5).exp()
    partner = (torch.arange(16) + 8) % 16
    others = similar.sum(1) - similar.diagonal()
    expected = -(similar[torch.arange(16), partner] / others).log().sum()
    assert step.loss_sum.item() == pytest.approx(expected.item(), rel=1e-4)
    assert step.count == 16
