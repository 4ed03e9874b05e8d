"""A method that needs one kind of network refuses another, before anything is built."""

from typing import ClassVar

import pytest

from tests.encoders.networks.examples import tiny_encoder
from tests.objectives.examples import LinearEncoder
from toolkit.errors import ConfigError
from toolkit.objectives import OBJECTIVES, build_objective, refuse_family
from toolkit.objectives.simclr import SimCLR, SimCLRConfig


@pytest.fixture
def only_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(SimCLR):
        families: ClassVar[tuple[str, ...] | None] = ("vit", "swin")

    monkeypatch.setitem(OBJECTIVES._classes, "simclr", Picky)


@pytest.mark.usefixtures("only_transformers")
def test_another_kind_of_network_is_refused_and_those_that_fit_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"objective.name: simclr cannot train a cnn; set encoder.name: swin_unetr or vit,"
    ):
        build_objective(SimCLRConfig(), tiny_encoder("small_resnet"))
    assert build_objective(SimCLRConfig(), tiny_encoder("vit")).encoder.family == "vit"
    build_objective(SimCLRConfig(), LinearEncoder())  # of no family


@pytest.mark.parametrize("family", ["small_resnet", "vit", "swin_unetr"])
def test_a_method_without_families_trains_any(family: str) -> None:
    refuse_family("simclr", tiny_encoder(family))
