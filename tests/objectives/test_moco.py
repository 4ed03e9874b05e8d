import pytest
import torch
import torch.nn.functional as F

from tests.objectives.examples import tiny, tiny_batch
from toolkit.objectives.moco import MoCoConfig, info_nce_loss
from toolkit.objectives.moco_v3 import MoCoV3Config, in_batch_info_nce_loss


def keys_of(objective: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.normalize(objective.embed(batch)[1].detach(), dim=1)


def test_the_queue_takes_keys_in_order_and_wraps_around() -> None:
    objective = tiny(MoCoConfig(queue_size=10, momentum=0.5))
    started, kept = objective.queue.clone(), []
    for seed in range(3):
        batch = tiny_batch(4, seed)
        objective(batch)
        kept.append(keys_of(objective, batch))
        objective.after_step(0.1)
        if seed == 0:
            torch.testing.assert_close(objective.queue, torch.cat([kept[0], started[4:]]))
    # Rows 8 and 9 hold the first two of the third batch, rows 0 and 1 its last two.
    torch.testing.assert_close(objective.queue, torch.cat([kept[2][2:], kept[0][2:], kept[1], kept[2][:2]]))
    assert int(objective.oldest) == 2


def test_a_queue_smaller_than_the_batch_keeps_the_last() -> None:
    objective = tiny(MoCoConfig(queue_size=3))
    batch = tiny_batch(7)
    objective(batch)
    expected = keys_of(objective, batch)[-3:]
    objective.after_step(0.1)
    torch.testing.assert_close(objective.queue, expected)


def test_keys_wait_until_the_step_is_done_and_count_once() -> None:
    objective = tiny(MoCoConfig(queue_size=10))
    started = objective.queue.clone()
    objective(tiny_batch(4, 1))  # a try that came to nothing
    objective(tiny_batch(4, 0))
    assert torch.equal(objective.queue, started)
    objective.after_step(0.1)
    objective.after_step(0.2)
    assert int(objective.oldest) == 4 and torch.equal(objective.queue[4:], started[4:])


def test_the_queue_starts_as_directions_and_is_what_queries_meet() -> None:
    objective = tiny(MoCoConfig(queue_size=5, projection_dim=3))
    assert objective.queue.shape == (5, 3)
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(5, dtype=torch.float64), rtol=1e-6, atol=0)
    query, key = objective.embed(batch := tiny_batch(4))
    expected = info_nce_loss(query, key, objective.queue, 0.2)
    step = objective(batch)
    assert (step.loss_sum / step.count).item() == pytest.approx(expected.item(), rel=1e-12)


def test_v3_is_the_authors_loss_without_its_factor() -> None:
    """Theirs: both directions summed, each times twice the temperature."""
    objective = tiny(MoCoV3Config(temperature=0.3))
    batch = tiny_batch(5)
    q0, q1, k0, k1 = (F.normalize(z, dim=1) for z in objective.embed(batch))
    labels = torch.arange(5)
    theirs = sum(F.cross_entropy(q @ k.T / 0.3, labels) * 2 * 0.3 for q, k in ((q0, k1), (q1, k0)))
    step = objective(batch)
    assert (step.loss_sum / step.count).item() == pytest.approx(theirs.item() / (2 * 2 * 0.3), rel=1e-9)


def test_the_batchs_other_keys_are_the_negatives_and_other_queries_are_not() -> None:
    query, key = torch.eye(4, 8, dtype=torch.float64), torch.eye(4, 8, dtype=torch.float64)
    alone = in_batch_info_nce_loss(query, key, 0.5)
    key[1] = query[0]  # sample 1's key looks like sample 0's query
    assert in_batch_info_nce_loss(query, key, 0.5) > alone
