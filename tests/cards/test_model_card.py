"""The README of a saved encoder: a front matter, a configuration, and no folder of anybody."""

from pathlib import Path

import pytest

from toolkit.cards import write_model_card
from toolkit.config import RunConfig, Section, parse_yaml


class Below(Section):
    """A section of a section."""

    points: Path | None = None
    label_maps: str = ""
    models: dict[str, str] | None = None


class Config(RunConfig):
    """As recipes have them."""

    manifest: Path | None = None
    held_out: tuple[Path, ...] = ()
    below: Below = Below()
    many: dict[str, Below] | None = None


def shown(folder: Path, config: Config) -> tuple[str, dict[str, object]]:
    path = write_model_card(folder, title="T", summary="S", library="monai", usage="pass", cards=[], config=config)
    text = path.read_text(encoding="utf-8")
    return text, parse_yaml(text.split("```yaml\n")[1].split("```")[0], "card")


@pytest.mark.parametrize("folder", ["/data/Doe_Jane", "../Doe_Jane", "C:\\Doe_Jane"])
def test_no_folder_of_the_configuration_is_shown(tmp_path: Path, folder: str) -> None:
    places = Below(points=f"{folder}/points.csv", label_maps=f"{folder}/{{name}}_seg.nii", models={"a": f"{folder}/m"})
    config = Config(
        output=f"{folder}/run",
        manifest=f"{folder}/train.csv",
        held_out=(f"{folder}/test.csv", f"{folder}/more/"),
        below=places,
        many={"one": places},
    )
    text, values = shown(tmp_path, config)
    assert "Doe" not in text
    below = {"points": "points.csv", "label_maps": "{name}_seg.nii", "models": {"a": "m"}}
    assert (values["manifest"], values["held_out"]) == ("train.csv", ["test.csv", "more"])
    assert (values["output"], values["below"], values["many"]) == ("run", below, {"one": below})
    assert str(config.manifest) == f"{folder}/train.csv"  # its own values stay


def test_other_values_are_shown_as_they_are(tmp_path: Path) -> None:
    _, values = shown(tmp_path, Config(output="run", seed=7))
    assert (values["seed"], values["manifest"], values["trackers"]) == (7, None, ["tensorboard"])
