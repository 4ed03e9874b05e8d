"""The hybrid is its two parts, weighed."""

from typing import Any

import pytest
import torch

from tests.objectives.examples import example_batch, example_encoder
from toolkit.objectives import build_objective
from toolkit.objectives.hybrid import HybridConfig
from toolkit.objectives.masking import reconstruction_loss, split_cells
from toolkit.objectives.simclr import nt_xent_loss


@pytest.fixture(params=[("cnn",), ("vit",)], ids=["cnn", "vit"])
def encoder(request: pytest.FixtureRequest) -> Any:
    return example_encoder("scans", request.param)


def test_the_loss_is_the_weighted_sum_of_contrast_and_reconstruction(encoder: Any) -> None:
    objective: Any = build_objective(HybridConfig(contrast_weight=0.3, reconstruction_weight=2.0), encoder).eval()
    batch = example_batch("scans")
    draws = {"view0": batch["draws"], "view1": ~batch["draws"]}
    parts = [objective.reconstructor(encoder, batch[view], draws[view]) for view in ("view0", "view1")]
    contrast = nt_xent_loss(*(objective.head(part.pooled_BD) for part in parts), 0.2)
    cells = [(part.predicted_BMV.flatten(0, 1), part.target_BMV.flatten(0, 1)) for part in parts]
    error = sum(reconstruction_loss(predicted, target) for predicted, target in cells) / 2
    step = objective(batch)
    torch.testing.assert_close(step.loss_sum / step.count, 0.3 * contrast + 2 * error)
    torch.testing.assert_close(step.logs["reconstruction"], error.detach())  # type: ignore[union-attr]
    assert step.count == 16 and "alignment" in step.logs


def test_both_views_hide_other_cells() -> None:
    draws = torch.arange(100)
    first, second = (split_cells(numbers, 27, 0.5)[0].sort(dim=1).values for numbers in (draws, ~draws))
    assert (first != second).any(dim=1).all()


@pytest.mark.parametrize(("weights", "trained"), [((0.0, 1.0), "reconstructor"), ((1.0, 0.0), "head")])
def test_a_part_without_weight_teaches_nothing(encoder: Any, weights: tuple[float, float], trained: str) -> None:
    config = HybridConfig(contrast_weight=weights[0], reconstruction_weight=weights[1])
    objective: Any = build_objective(config, encoder)
    objective(example_batch("scans")).loss_sum.backward()
    for part in ("reconstructor", "head"):
        moved = sum(float(p.grad.abs().sum()) for p in getattr(objective, part).parameters() if p.grad is not None)
        assert (moved > 0) == (part == trained)
