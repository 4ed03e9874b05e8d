"""Configuration: YAML 1.2, one-level extends, overrides, and every mistake at once."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from toolkit.config import Section, digest, json_schema, load, parse_yaml, to_yaml
from toolkit.config.help import field_lines
from toolkit.errors import ConfigError


class Contrast(Section):
    name: Literal["contrast"] = "contrast"
    temperature: float = Field(0.1, gt=0, le=1)
    """Softmax temperature."""


class Masking(Section):
    name: Literal["masking"] = "masking"
    rate: float = Field(0.15, gt=0, lt=1)


class Data(Section):
    languages: tuple[str, ...] = ()
    card: str
    """Name of a data card."""


class Config(Section):
    objective: Contrast | Masking = Field(Contrast(), discriminator="name")
    data: Data
    num_steps: int = Field(10, gt=0)
    """Optimiser steps."""
    output: str = "runs/x"


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_yaml_is_version_1_2() -> None:
    assert parse_yaml("[no, 1e-3, on, 12:30]", "x") == ["no", 0.001, "on", "12:30"]


def test_file_extends_and_overrides(write) -> None:  # type: ignore[no-untyped-def]
    write("base.yaml", "data: {card: a, languages: [sl]}\nnum_steps: 5")
    path = write("child.yaml", "extends: base.yaml\ndata: {card: b}")
    config = load(path, Config, ["objective.temperature=2e-1", "data.languages=[no, zh]"])
    assert config.data == Data(card="b", languages=("no", "zh"))
    assert config.num_steps == 5 and config.objective == Contrast(temperature=0.2)


def test_extends_goes_one_level_only(write) -> None:  # type: ignore[no-untyped-def]
    write("a.yaml", "num_steps: 5")
    write("b.yaml", "extends: a.yaml")
    with pytest.raises(ConfigError, match="only one level"):
        load(write("c.yaml", "extends: b.yaml"), Config)
    with pytest.raises(ConfigError, match="does not exist"):
        load(write("d.yaml", "extends: nowhere.yaml"), Config)


def test_every_mistake_is_named_at_once(write) -> None:  # type: ignore[no-untyped-def]
    path = write(
        "bad.yaml",
        "objective: {name: contrast, temperatur: 1, temperature: 3}\ndata: {languages: sl}\n"
        "num_stepps: 3\nnum_steps: many",
    )
    with pytest.raises(ConfigError) as caught:
        load(path, Config)
    lines = caught.value.mistakes
    assert caught.value.exit_code == 2 and all(line.startswith(str(path)) and "\n" not in line for line in lines)
    said = "\n".join(lines)
    assert "objective.temperatur: unknown key; did you mean 'temperature'?" in said
    assert "objective.temperature: input should be less than or equal to 1; allowed: > 0, <= 1 (got 3)" in said
    assert "data.card: missing; it is required (Name of a data card.)" in said
    assert "data.languages: input should be a valid tuple (got 'sl')" in said
    assert "num_stepps: unknown key; did you mean 'num_steps'?" in said
    assert "num_steps: input should be a valid integer" in said
    assert len(lines) == 6


def test_unknown_method_gets_the_nearest(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"objective\.name: no 'contrst'; did you mean 'contrast'\?"):
        load(write("a.yaml", "objective: {name: contrst}\ndata: {card: x}"), Config)
    assert load(write("b.yaml", "objective: {temperature: 1}\ndata: {card: x}"), Config).objective == Contrast(
        temperature=1
    )


@pytest.mark.parametrize("text", ["objective: masking\ndata: {card: x}", "data: {card: x}"])
def test_a_name_alone_chooses_among_sections(write, text: str) -> None:  # type: ignore[no-untyped-def]
    overrides = [] if "masking" in text else ["objective=masking"]
    assert load(write("a.yaml", text), Config, overrides).objective == Masking()
    with pytest.raises(ConfigError, match=r"objective\.name: no 'maskin'; did you mean 'masking'\?"):
        load(write("b.yaml", text), Config, ["objective=maskin"])


def test_a_name_alone_replaces_the_section_of_the_file(write) -> None:  # type: ignore[no-untyped-def]
    path = write("a.yaml", "objective: {name: contrast, temperature: 0.5}\ndata: {card: x}")
    assert load(path, Config, ["objective=masking"]).objective == Masking()
    with pytest.raises(ConfigError, match=r"data: input should be a valid .*got 'masking'"):  # one section, no choice
        load(path, Config, ["data=masking"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "line 2: not valid YAML"),
        ("num_steps: 1\nnum_steps: 2", "duplicate key"),
        ("- 1\n- 2", "must hold keys and values"),
    ],
)
def test_files_that_are_no_configuration(write, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        load(write("x.yaml", text), Config)


def test_missing_file_and_bad_overrides(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "no.yaml", Config)
    with pytest.raises(ConfigError, match=r"write it as key\.path=value"):
        load(None, Config, ["num_steps"])
    with pytest.raises(ConfigError, match="is a value, not a section"):
        load(None, Config, ["data.card=x", "data.card.y=1"])


def test_written_configuration_reads_back_equal(write) -> None:  # type: ignore[no-untyped-def]
    config = Config(data=Data(card="n", languages=("no", "中文")), objective=Masking(rate=0.3))
    assert load(write("out.yaml", to_yaml(config)), Config) == config


def test_digest_depends_on_values_and_not_on_excluded_keys() -> None:
    one, two = Config(data=Data(card="a")), Config(data=Data(card="a"), output="elsewhere")
    assert digest(one) != digest(two)
    assert digest(one, exclude=["output"]) == digest(two, exclude=["output"])


def test_help_and_schema_carry_the_docstrings() -> None:
    lines = list(field_lines(Config))
    assert "  num_steps [10; > 0] Optimiser steps." in lines
    assert "  objective.temperature [0.1; > 0, <= 1] Softmax temperature." in lines
    assert "  data.card [required] Name of a data card." in lines
    schema = json_schema(Config)
    assert schema["properties"]["num_steps"]["description"] == "Optimiser steps."
    assert schema["additionalProperties"] is False and "extends" in schema["properties"]
