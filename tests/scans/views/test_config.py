"""Probabilities and strengths: defaults by modality, and what is refused."""

import pytest

from toolkit.config import validate
from toolkit.errors import ConfigError
from toolkit.scans.views import ViewConfig


def test_ct_numbers_keep_their_meaning_unless_asked() -> None:
    ct = ViewConfig(modality="ct")
    assert ct.gamma_probability == ct.gamma_inverted_probability == ct.bias_field_probability == 0
    assert ct.rician_probability == 0
    assert ct.contrast_probability == ct.noise_probability == 1


def test_what_the_user_gives_wins_over_the_modality() -> None:
    asked = ViewConfig(modality="ct", gamma=1.2, gamma_inverted_probability=0.25, bias_field_probability=0.5)
    assert (asked.gamma, asked.gamma_probability, asked.gamma_inverted_probability) == (1.2, 1, 0.25)
    assert asked.bias_field_probability == 0.5
    assert ViewConfig(modality="ct", bias_field=0.3).bias_field_probability == 1
    assert ViewConfig(modality="ct", rician_probability=0.3).rician_probability == 0.3


@pytest.mark.parametrize("modality", ["mr", "ct"])
def test_resolved_values_read_back_as_themselves(modality: str) -> None:
    config = ViewConfig(modality=modality)
    assert ViewConfig.model_validate(config.model_dump()) == config


def test_mr_has_what_the_published_results_were_made_with() -> None:
    mr = ViewConfig()
    new = ["crop_resize", "elastic", "low_resolution", "ghosting", "motion", "rician"]
    new += ["outer_mask", "inner_mask", "cutout"]
    assert {name: getattr(mr, f"{name}_probability") for name in new} == dict.fromkeys(new, 0)
    kept = (mr.shift_voxels, mr.rotation_degrees, mr.zoom, mr.blur_sigma_voxels, mr.gamma, mr.contrast, mr.brightness)
    assert (*kept, mr.bias_field, mr.noise) == (4, 15, 1.2, 1, 1.5, 0.25, 0.1, 0.2, 0.05)
    assert mr.blur_probability == mr.gamma_inverted_probability == 0.5
    assert mr.flip_probability == (0.5, 0, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blur_probability", 1.5),
        ("flip_probability", [0.5, 0.5]),
        ("zoom", 0.5),
        ("crop_resize", 0),
        ("elastic_cells", 0),
        ("gamma", 0.9),
        ("contrast", 1),
        ("noise", -0.1),
        ("cutout", 1.0),
        ("low_resolution", 0.5),
        ("blur_sigma_voxels", 5),
        ("modality", "pet"),
        ("elastik", 1),
    ],
)
def test_a_bad_value_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        validate({key: value}, ViewConfig, "views.yaml")
    assert all(line.startswith("views.yaml: ") and key in line for line in refused.value.mistakes)
