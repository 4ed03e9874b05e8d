"""What every registered method must do. A new file in toolkit/objectives/ is tested here without a new line."""

import copy
import io
import math
from typing import Any

import pytest
import torch

from tests.objectives.examples import example_batch, example_encoder
from toolkit.objectives import OBJECTIVES, build_objective
from toolkit.training import Step


def make(name: str) -> Any:
    torch.manual_seed(0)
    cls = OBJECTIVES.get(name)
    return build_objective(cls.Config(), example_encoder(cls.modality, cls.families))


def batch_of(objective: Any, **part: int) -> Any:
    return example_batch(objective.modality, pairing=objective.pairing, **part)


def step(objective: Any, batch: Any, seed: int = 1) -> Step:
    torch.manual_seed(seed)  # of dropout, which the example encoders do not have
    return objective(batch)


@pytest.fixture(params=list(OBJECTIVES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_registered_name_is_the_configured_one(name: str) -> None:
    assert OBJECTIVES.get(name).Config().name == name  # type: ignore[attr-defined]


def test_loss_is_finite_and_its_gradient_reaches_the_encoder(name: str) -> None:
    objective = make(name).train()
    result = step(objective, batch_of(objective))
    assert result.loss_sum.ndim == 0 and torch.isfinite(result.loss_sum) and int(result.count) > 0
    (result.loss_sum / int(result.count)).backward()
    gradients = [p.grad for p in objective.encoder.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(torch.isfinite(g).all() for g in gradients)


def test_same_seed_same_loss(name: str) -> None:
    losses = [step(make(name).train(), batch_of(OBJECTIVES.get(name))).loss_sum for _ in range(2)]
    assert torch.equal(*losses)


def test_all_that_is_random_comes_with_the_batch(name: str) -> None:
    batch = batch_of(OBJECTIVES.get(name))
    assert torch.equal(*(step(make(name).train(), batch, seed).loss_sum for seed in range(2)))


@pytest.mark.parametrize("num_shards", [2, 4])
def test_parts_of_a_batch_agree_with_the_whole(name: str, num_shards: int) -> None:
    objective = make(name).eval()  # batch norms then do not depend on the batch
    whole = step(objective, batch_of(objective))
    shards = [batch_of(objective, shard=shard, num_shards=num_shards) for shard in range(num_shards)]
    if hasattr(objective, "embed"):
        parts = zip(*(objective.embed(shard) for shard in shards), strict=True)
        z = tuple(torch.cat(part) for part in parts)
        assert objective.step(z).count == whole.count
        loss_sum = objective.step(z).loss_sum
        torch.testing.assert_close(objective.loss(z) * whole.count, loss_sum, rtol=1e-5, atol=1e-5)
    else:
        parts = [step(objective, shard) for shard in shards]
        assert sum(int(part.count) for part in parts) == int(whole.count)
        loss_sum = sum(part.loss_sum for part in parts)
    torch.testing.assert_close(loss_sum, whole.loss_sum, rtol=1e-5, atol=1e-5)


def train(objective: Any, num_steps: int, batch: Any, *, after_step: bool = True) -> list[float]:
    """The mean losses of so many steps on one batch."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    means = []
    for number in range(num_steps):
        result = step(objective, batch)
        mean = result.loss_sum / int(result.count)
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        if after_step:
            objective.after_step((number + 1) / num_steps)
        means.append(mean.item())
    return means


def test_state_round_trips(name: str) -> None:
    """Weights, and what `after_step` moves: copies, queues, schedules."""
    objective, other = make(name).train(), make(name).train()
    batch = batch_of(objective)
    train(objective, 3, batch)
    buffer = io.BytesIO()
    torch.save(objective.state_dict(), buffer)
    buffer.seek(0)
    for tensor in other.state_dict().values():
        tensor.copy_(~tensor if tensor.dtype == torch.bool else 1 - tensor)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert train(objective, 3, batch) == train(other, 3, batch)
    for key, value in objective.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_a_partial_batch_works(name: str) -> None:
    objective = make(name).train()
    result = step(objective, batch_of(objective, size=3))
    assert torch.isfinite(result.loss_sum)


def test_a_few_steps_lower_the_loss(name: str) -> None:
    """Against the same copies and queues: these follow in `after_step`, and a queue full of the batch's own keys raises
    the loss."""
    objective = make(name).train()
    means = train(objective, 25, batch_of(objective), after_step=False)
    assert means[-1] < means[0]


def test_what_follows_a_step_leaves_the_loss_finite_and_the_encoder_alone(name: str) -> None:
    objective = make(name).train()
    batch = batch_of(objective)
    assert all(math.isfinite(mean) for mean in train(objective, 3, batch))
    step(objective, batch)
    before = copy.deepcopy(objective.encoder.state_dict())
    objective.after_step(0.5)
    assert all(torch.equal(value, before[key]) for key, value in objective.encoder.state_dict().items())


def test_what_can_collapse_shows_its_embeddings(name: str) -> None:
    objective = make(name).train()
    if hasattr(objective, "embed"):
        assert step(objective, batch_of(objective)).embeddings is not None


def test_what_is_embedded_are_rows_of_samples_both_views_first(name: str) -> None:
    objective = make(name).train()
    batch = batch_of(objective)
    if hasattr(objective, "embed"):
        z = objective.embed(batch)
        assert all(part.ndim == 2 and len(part) == len(z[0]) for part in z) and z[0].shape == z[1].shape


def test_limits_are_of_what_is_logged(name: str) -> None:
    objective = make(name).train()
    logged = {"embedding_std", "effective_rank", "uniformity", *step(objective, batch_of(objective)).logs}
    assert set(objective.alarm_limits) <= logged
