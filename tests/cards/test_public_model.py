"""Cards of public models: those of the repository are in order, and mistakes in others are told."""

from pathlib import Path

import pytest

from toolkit.cards import list_public_models, load_public_model
from toolkit.encoders.checkpoints import ORIGINS
from toolkit.errors import CardError

CARDS = Path(__file__).parents[2] / "model_cards"
GOOD = """---
pretty_name: A model
license: mit
fewlabel:
  weights: https://example.org/weights
  paper: arXiv:0000.00000
  network: a network
  trained_on: scans
  sources: {license: its page}
---

# A model
"""


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_a_card_of_ours_says_how_to_load_it_and_what_nobody_checked(path: Path) -> None:
    model = load_public_model(path)
    assert model.origin in (None, *ORIGINS)
    assert set(model.sources) <= {*type(model).model_fields}
    assert model.not_verified and "external" in model.prose
    assert model.origin is None or f"origin: {model.origin}" in model.prose
    assert "## Caveats" in model.prose or model.name == "monai"


def test_every_origin_of_others_has_a_card_and_cards_are_listed() -> None:
    models = {model.name: model for model in list_public_models()}
    assert {"ct_fm", "voxelfm", "brainiac", "three_dino", "medicalnet", "swin_unetr_ssl"} <= models.keys()
    assert {model.origin for model in models.values()} - {None} == set(ORIGINS) - {"fewlabel"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trained_on: scans", "trained_onn: scans", "trained_onn.*did you mean 'trained_on'"),
        ("license: mit\n", "", "license"),
        ("sources: {license: its page}", "sources: {}", "sources"),
        ("license: mit", "license: mit\norigin: monai", "origin: belongs under fewlabel:"),
        ("license: mit", "licence: mit", "licence: unknown key; did you mean 'license'"),
    ],
)
def test_mistakes_are_told(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(CardError, match=f"card.md: .*{message}"):
        load_public_model(tmp_path / "card.md")


def test_a_name_of_nothing_gets_the_nearest() -> None:
    with pytest.raises(CardError, match="did you mean 'ct_fm'"):
        load_public_model("ct_fn")
