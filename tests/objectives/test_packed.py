"""The same texts with the same masks have the same loss and gradient, however they are laid out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.objectives.examples import TEXTS, tokenizer
from tests.training.processes import run_together
from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.objectives import OBJECTIVES, Objective, build_objective
from toolkit.text import MaskedBatches, MaskingConfig, TokenStore
from toolkit.text.sampler import Layout
from toolkit.training import TrainingConfig
from toolkit.training.engine import Engine
from toolkit.training.feed import Feed

PACKING = [name for name in OBJECTIVES if OBJECTIVES.get(name).packs]
ROOM = 48


def objective_of(name: str, architecture: str = "bert") -> Objective:
    config = TextEncoderConfig(
        architecture=architecture, num_layers=2, hidden_size=16, num_heads=2, max_length=ROOM, dropout=0.0
    )  # type: ignore[arg-type]
    encoder = TextEncoder.from_scratch(config, tokenizer(), seed=0)
    return build_objective(OBJECTIVES.get(name).Config(), encoder)


def batches(packed: bool) -> MaskedBatches:
    store = TokenStore.build(TEXTS, ["en"] * len(TEXTS), tokenizer(), ROOM)
    return MaskedBatches(store, tokenizer(), MaskingConfig(share=0.3), batch_size=4, seed=0, packed=packed)


def laid_out(kind: str) -> dict[str, Tensor]:
    """The texts of one step: packed, a text a row, or a text a row in order of length."""
    made = batches(packed=True)
    if kind == "packed":
        return made.batch(1)
    texts = made.sampler.layout(1).texts
    plain = batches(packed=False)
    single = Layout(texts, np.arange(len(texts)), np.zeros(len(texts), int), (len(texts), ROOM))
    plain.sampler.layout = lambda step: single  # type: ignore[method-assign]
    plain.sampler.batch_size = len(texts)  # type: ignore[misc]
    batch = plain.batch(1)
    if kind == "single":
        return batch
    return by_length(batch)


def by_length(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows sorted by length, so that everything lies elsewhere."""
    order = batch["attention_mask"].sum(dim=1).argsort(stable=True)
    width = batch["input_ids"].shape[1]
    row, column = batch["positions"] // width, batch["positions"] % width
    moved = order.argsort()[row] * width + column
    sequence = moved.argsort()
    turned = {"positions": moved[sequence], "targets": batch["targets"][sequence], "totals": batch["totals"]}
    return turned | {key: rows[order] for key, rows in batch.items() if key not in turned}


def loss_and_gradient(name: str, batch: dict[str, Any], architecture: str = "bert") -> tuple[Tensor, Tensor]:
    objective = objective_of(name, architecture)
    step = objective(batch)
    (step.loss_sum / step.count).backward()
    gradients = [p.grad.flatten() for p in objective.encoder.parameters() if p.grad is not None]
    return step.loss_sum.detach() / step.count, torch.cat(gradients)


@pytest.mark.parametrize("kind", ["single", "bucketed"])
@pytest.mark.parametrize(
    ("name", "architecture"), [*((name, "bert") for name in PACKING), ("mlm", "modernbert"), ("mlm", "xlm-roberta")]
)
def test_packed_texts_have_the_loss_that_they_have_apart(name: str, architecture: str, kind: str) -> None:
    """In float32."""
    loss, gradient = loss_and_gradient(name, laid_out("packed"), architecture)
    other_loss, other_gradient = loss_and_gradient(name, laid_out(kind), architecture)
    torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=0)
    assert (gradient - other_gradient).norm() < 1e-5 * gradient.norm()


def test_the_head_at_masked_positions_gives_what_the_full_one_does() -> None:
    batch = laid_out("packed")
    sparse, sparse_gradient = loss_and_gradient("mlm", batch)
    objective = objective_of("mlm")
    hidden = objective.encoder(batch).last
    logits_BTV = objective.head.logits(hidden, objective.encoder.token_embeddings)
    labels = torch.full_like(batch["input_ids"], -100)
    labels.view(-1)[batch["positions"]] = batch["targets"]
    full = F.cross_entropy(logits_BTV.flatten(0, 1), labels.flatten())
    full.backward()
    gradient = torch.cat([p.grad.flatten() for p in objective.encoder.parameters() if p.grad is not None])
    torch.testing.assert_close(sparse, full.detach(), rtol=1e-6, atol=0)
    assert (gradient - sparse_gradient).norm() < 1e-5 * gradient.norm()


def gradients(name: str, micro_batch_size: int | None = None) -> dict[str, Tensor]:
    """Of the first packed batch, in float64, as the loop takes it."""
    config = TrainingConfig(num_steps=2, batch_size=4, micro_batch_size=micro_batch_size, clip_norm=1e9)
    objective = objective_of(name).double()
    engine = Engine(objective, config, seed=0)
    feed = Feed(batches(packed=True), config, 2, engine.accelerator.device)
    engine.begin(feed, 0)
    loss = engine.gradients(feed, 0).loss
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None} | {"loss": loss}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """But for the loop's quotient of a count that is a tensor, which is in float32."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def in_a_process(folder: Path) -> None:
    for name in PACKING:
        torch.save(gradients(name), folder / f"{name} {torch.distributed.get_rank()}.pt")


@pytest.mark.parametrize("name", PACKING)
def test_packed_rows_in_portions_equal_the_whole_batch(name: str) -> None:
    assert_equal(gradients(name, 2), gradients(name))


def test_two_processes_with_packed_rows_equal_one(tmp_path: Path) -> None:
    """Each has another number of texts, and what the monitors are shown still has one shape."""
    run_together(2, in_a_process, tmp_path)
    for name in PACKING:
        for rank in range(2):
            found = torch.load(tmp_path / f"{name} {rank}.pt", weights_only=True)
            assert_equal(found, gradients(name))
