"""Loss and gradients of every method are those of the whole batch, however it is shared out, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.objectives.examples import example_batch, example_encoder, text_batches
from tests.training.processes import run_together
from toolkit.errors import ConfigError
from toolkit.objectives import OBJECTIVES, build_objective
from toolkit.training import TrainingConfig
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed

BATCH_SIZE, NUM_STEPS = 8, 2


class Views:
    """The example views, cut into shards."""

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, torch.Tensor]:
        size = BATCH_SIZE // num_shards
        whole = example_batch("scans", BATCH_SIZE)
        rows = {name: tensor.roll(step, 0)[shard * size : (shard + 1) * size] for name, tensor in whole.items()}
        return {name: part.double() if part.is_floating_point() else part for name, part in rows.items()}


def batches(objective: Any) -> Any:
    return Views() if objective.modality == "scans" else text_batches(BATCH_SIZE, objective.pairing)


def independent(name: str) -> nn.Module:
    """The method with norms that do not look at the batch."""
    cls = OBJECTIVES.get(name)
    config = cls.Config(**({"head_norm": "layer"} if "head_norm" in cls.Config.model_fields else {}))
    return build_objective(config, example_encoder(cls.modality, cls.families, norm="group"))


def default(name: str) -> nn.Module:
    cls = OBJECTIVES.get(name)
    return build_objective(cls.Config(), example_encoder(cls.modality, cls.families))


def engine_and_feed(
    objective: nn.Module, micro_batch_size: int | None = None, clip_norm: float = 1.0
) -> tuple[Engine, Feed]:
    # LARS' steps are smooth in the gradient; Adam's first ones blow up what rounding leaves of a gradient of zero.
    config = TrainingConfig(
        num_steps=NUM_STEPS,
        batch_size=BATCH_SIZE,
        micro_batch_size=micro_batch_size,
        clip_norm=clip_norm,
        optimizer="lars",
    )
    engine = Engine(objective.double(), config, seed=0)
    feed = Feed(batches(objective), config, NUM_STEPS, engine.accelerator.device)  # type: ignore[arg-type]
    engine.begin(feed, 0)
    return engine, feed


def gradients(objective: nn.Module, micro_batch_size: int | None = None) -> dict[str, torch.Tensor]:
    """Loss, buffers and the gradient of each parameter after the first batch."""
    engine, feed = engine_and_feed(objective, micro_batch_size, clip_norm=1e9)
    outcome = engine.gradients(feed, 0)
    # Fused AdamW goes through memory and does not look at strides.
    assert all(in_memory(p.grad) == in_memory(p) for p in objective.parameters() if p.grad is not None)
    found = {f"gradient of {name}": p.grad for name, p in objective.named_parameters() if p.grad is not None}
    found |= {name: buffer for name, buffer in objective.named_buffers() if "running" in name}
    return found | {"loss": outcome.loss}


def state(objective: nn.Module, micro_batch_size: int | None = None) -> dict[str, torch.Tensor]:
    """Weights, copies, queues and schedules after some steps."""
    engine, feed = engine_and_feed(objective, micro_batch_size)
    for step in range(NUM_STEPS):
        engine.step(feed, step, lr=1.0, progress=(step + 1) / NUM_STEPS)
    return dict(objective.state_dict())


def in_memory(tensor: torch.Tensor) -> list[int]:
    """How far apart neighbours lie, along axes that have any."""
    return [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


CASES: dict[str, tuple[Any, int | None]] = {"shared": (default, None), "shared in portions": (independent, 2)}


def in_a_process(folder: Path) -> None:
    for name in OBJECTIVES:
        for case, (make, micro_batch_size) in CASES.items():
            found = gradients(make(name), micro_batch_size), state(make(name), micro_batch_size)
            torch.save(found, folder / f"{name} {case} {torch.distributed.get_rank()}.pt")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found in every case: they take seconds to start."""
    folder = tmp_path_factory.mktemp("together")
    run_together(2, in_a_process, folder)
    return folder


@pytest.fixture(params=list(OBJECTIVES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_whole_batch(name: str, case: str, together: Path) -> None:
    make = CASES[case][0]
    expected = gradients(make(name)), state(make(name))
    for rank in range(2):
        found = torch.load(together / f"{name} {case} {rank}.pt", weights_only=True)
        assert_equal(found[0], expected[0])
        assert_equal(found[1], expected[1])


@pytest.mark.parametrize("micro_batch_size", [4, 2])
def test_portions_equal_the_whole_batch(name: str, micro_batch_size: int) -> None:
    assert_equal(gradients(independent(name), micro_batch_size), gradients(independent(name)))


def test_a_step_that_ran_out_of_memory_ends_as_the_whole_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first try came as far as the backward pass, so that all which a step keeps was kept already."""
    expected = state(independent(name))
    objective = independent(name)
    engine, feed = engine_and_feed(objective)
    backward, failures = Engine._backward, iter([True])

    def failing(self: Engine, loss: torch.Tensor) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(self, loss)

    monkeypatch.setattr(Engine, "_backward", failing)
    for step in range(NUM_STEPS):
        engine.step(feed, step, lr=1.0, progress=(step + 1) / NUM_STEPS)
    assert engine.layout.num_shards == 2
    assert_equal(dict(objective.state_dict()), expected)


def test_batch_norm_in_portions_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.norm: group and objective\.head_norm: layer"):
        gradients(default("simclr"), 4)


def test_caching_gives_other_gradients_under_batch_norm() -> None:
    """Why it is refused: they would differ by most of their size."""
    expected = gradients(default("simclr"))
    objective = default("simclr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.training.engine.refuse_batch_norm_in_portions", lambda *_: None)
        found = gradients(objective, 2)
    name = next(name for name in expected if name.endswith("conv1.weight"))
    assert (found[name] - expected[name]).norm() > 0.3 * expected[name].norm()
