"""SparK: what is guessed, from what, and which encoders and patches it takes."""

from typing import Any

import pytest
import torch

from tests.encoders.networks.examples import tiny_encoder
from tests.objectives.examples import example_batch
from toolkit.encoders.networks import NETWORKS
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import ConfigError
from toolkit.objectives import build_objective
from toolkit.objectives.hybrid import HybridConfig
from toolkit.objectives.masking import split_cells, to_cells
from toolkit.objectives.spark import SparKConfig
from toolkit.objectives.sparse import masked_maps
from toolkit.scans import Preprocessing


def spark(encoder: dict[str, Any] | None = None, **options: Any) -> Any:
    network = ScanEncoder(ScanEncoderConfig(**{"width": 4, **(encoder or {})}), Preprocessing()).untrained(0)
    return build_objective(SparKConfig(**options), network)


@pytest.mark.parametrize(
    ("encoder", "options", "sides", "cell"),
    [
        ({}, {}, (24, 24, 24), (6, 6, 6)),
        ({}, {"min_cells": 8}, (24, 24, 24), (12, 12, 12)),
        ({}, {"min_cells": 65}, (24, 24, 24), (3, 3, 3)),
        ({}, {}, (96, 96, 96), (24, 24, 24)),
        ({}, {}, (72, 72, 72), (24, 24, 24)),
        ({}, {}, (27, 27, 27), (3, 3, 3)),
        ({}, {}, (24, 48, 48), (12, 12, 12)),
        ({"stem_stride": 2}, {}, (24, 24, 24), (8, 8, 8)),
        ({"patch_size": 96}, {}, (24, 24, 24), (6, 6, 6)),
    ],
)
def test_cells_are_those_of_the_coarsest_map_with_enough_of_them(
    encoder: dict[str, Any], options: dict[str, Any], sides: tuple[int, int, int], cell: tuple[int, int, int]
) -> None:
    """Maps of 8, 4, 2 and 1 places a side, of patches of 24 voxels; whatever `encoder.patch_size` says."""
    assert spark(encoder, **options).reconstructor.cell(sides) == cell


def test_larger_patches_than_the_encoders_have_larger_cells() -> None:
    """27 of 24 voxels a side, and not 1,728 of six."""
    step = spark({"patch_size": 24})({"view0": torch.rand(1, 1, 72, 72, 72), "draws": torch.arange(1)})
    assert step.count == 16  # .6 of 27


def test_targets_are_the_hidden_cells_and_the_count_is_their_number() -> None:
    objective, batch = spark(normalize_targets=False), example_batch("scans")
    predicted, target, pooled = objective.reconstructor(objective.encoder, batch["view0"], batch["draws"])
    hidden, _ = split_cells(batch["draws"], 64, 0.6)
    cells = to_cells(batch["view0"], (6, 6, 6))
    for row in range(8):
        assert torch.equal(target[row], cells[row][hidden[row]])
    assert predicted.shape == target.shape == (8, 38, 216) and pooled.shape == (8, objective.encoder.embed_dim)
    step = objective(batch)
    assert step.count == 8 * 38
    expected = (predicted - target).square().mean()
    torch.testing.assert_close(step.loss_sum / step.count, expected)


def test_guesses_follow_from_what_is_visible_alone() -> None:
    objective, batch = spark().train(), example_batch("scans")
    x = batch["view0"].requires_grad_()
    predicted, _, pooled = objective.reconstructor(objective.encoder, x, batch["draws"])
    (gradient,) = torch.autograd.grad(predicted.square().sum() + pooled.square().sum(), x)
    hidden, visible = split_cells(batch["draws"], 64, 0.6)
    size = to_cells(gradient, (6, 6, 6)).abs().sum(dim=2)
    assert (size.gather(1, hidden) == 0).all() and (size.gather(1, visible) > 0).all()


def test_a_guess_lies_where_its_cell_does() -> None:
    """With the last layer alone trained on features that are the voxels themselves, cells come back in their places."""
    objective = spark()
    module = objective.reconstructor
    volumes = torch.randn(2, 1, 24, 24, 24)
    # A place of the finest map holds 3^3 voxels as its channels, in the order in which `voxels` has to give them.
    places = to_cells(volumes, (3, 3, 3)).transpose(1, 2).unflatten(2, (8, 8, 8))
    module._decoded = lambda maps, seen: places
    predicted, target, _ = module(objective.encoder, volumes, torch.arange(2))
    torch.testing.assert_close(predicted, target)


def test_pooled_features_are_means_over_visible_places(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch, kept = spark({"pooled_stages": (2,)}).eval(), example_batch("scans"), []
    monkeypatch.setattr(
        "toolkit.objectives.spark.masked_maps", lambda *args: kept.append(masked_maps(*args)) or kept[0]
    )
    _, _, pooled = objective.reconstructor(objective.encoder, batch["view0"], batch["draws"])
    _, visible = split_cells(batch["draws"], 64, 0.6)
    for row in range(8):
        places = kept[0][1][row].flatten(1)  # of 4^3 places, as many as cells
        torch.testing.assert_close(pooled[row], places[:, visible[row]].mean(dim=1))


@pytest.mark.parametrize("thick", [False, True])
@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS.get(name).family == "cnn"])
def test_every_convolutional_network_learns_by_it(name: str, thick: bool) -> None:
    options = {"patch_size": (12, 48, 48), "voxel_mm": (5.0, 1.0, 1.0)} if thick else {}
    encoder = tiny_encoder(name, **options)
    objective = build_objective(SparKConfig(), encoder).train()
    batch = {"view0": torch.rand(2, 1, *encoder.config.sides), "draws": torch.arange(2)}
    step = objective(batch)
    (step.loss_sum / step.count).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in objective.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(objective(batch).loss_sum)


@pytest.mark.parametrize("config", [SparKConfig(), HybridConfig()], ids=["spark", "hybrid"])
def test_patches_that_no_map_parts_evenly_are_refused_before_the_first_step(config: Any) -> None:
    encoder = ScanEncoder(ScanEncoderConfig(width=4), Preprocessing())
    said = r"^views\.patch_size: no map .* of 3x3x3, 6x6x6, .* patches of \(28, 28, 28\) voxels evenly into 27 cells"
    with pytest.raises(ConfigError, match=said):
        build_objective(config, encoder, sides=(28, 28, 28))
    objective = build_objective(config, encoder, sides=(30, 30, 30))
    views = {"view0": torch.rand(2, 1, 28, 28, 28), "view1": torch.rand(2, 1, 28, 28, 28)}
    with pytest.raises(ConfigError, match=said):
        objective(views | {"draws": torch.arange(2)})


def test_more_cells_than_the_finest_map_has_places_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"evenly into 600 cells or more; take larger patches.*objective\.min_cells$"):
        spark(min_cells=600).refuse_sides((24, 24, 24))
