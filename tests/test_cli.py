import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from toolkit.cli import app
from toolkit.console import log

ROOT = Path(__file__).parent.parent
CARD = """---
pretty_name: Poems
license: cc0-1.0
language: en
fewlabel:
  source: {kind: path, path: poems.csv}
  reader: [{format: table, member: poems.csv, text: text, label: mood}]
  label_map: {sad: [sad], glad: [glad]}
  split: {unit: text, test_share: 0.3}
  personal_data: {status: none, consent: invented for a test}
---
# Poems

Two poems.
"""
RECIPE = '''"""Counts to a number.

python recipes/count.py --config configs/count/three.yaml
"""

from pathlib import Path

from pydantic import Field

from toolkit.config import Section, main
from toolkit.errors import DataError


class Config(Section):
    output: Path = Path("runs/count")
    """Where the count goes."""
    to: int = Field(3, gt=0)
    """Where to stop."""
    fail: str = ""
    """How to fail."""


def run(cfg: Config) -> None:
    if cfg.fail == "data":
        raise DataError("poems.csv: empty; add a line")
    if cfg.fail == "disk":
        raise OSError(28, "No space left on device", "runs/count/big")
    if cfg.fail == "interrupt":
        raise KeyboardInterrupt
    if cfg.fail == "bug":
        raise ZeroDivisionError
    cfg.output.mkdir(parents=True, exist_ok=True)
    (cfg.output / "count").write_text(str(cfg.to))


if __name__ == "__main__":
    main(run, Config)
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe, two configurations and a card."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWLABEL_DEBUG", "")
    monkeypatch.setattr(log, "handlers", [])  # each runner has an error stream of its own
    for name, text in {
        "recipes/count.py": RECIPE,
        "configs/count/three.yaml": "# fewlabel run count --config count/three\n# Ends at once\nto: 3\n",
        "configs/count/more.yaml": "extends: three.yaml\noutput: runs/more\n",
        "data_cards/poems.md": CARD,
        "data_cards/poems.csv": "text,mood\nRain falls.,sad\nSun shines.,glad\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def fewlabel(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in the working folder of the test."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)


MAIN = "from toolkit.cli import main; main()"


def test_help_is_there_without_torch() -> None:
    code = (
        "import sys; from toolkit.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert end.code in (0, None)\n"
        "heavy = {'torch', 'monai', 'transformers', 'sklearn', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    outcome = python(code)
    assert outcome.returncode == 0, outcome.stderr
    for command in ("ls", "cp", "init", "run", "validate", "schema", "data", "objectives", "doctor"):
        assert f" {command} " in outcome.stdout


def test_ls_shows_one_line_each_and_filters() -> None:
    lines = fewlabel("ls").output.splitlines()
    assert any(" ".join(line.split()) == "recipe count Counts to a number. working folder" for line in lines)
    assert any("count/three" in line and "Ends at once" in line for line in lines)
    assert any(line.startswith("card") and "poems" in line for line in lines)
    filtered = fewlabel("ls", "COUNT", "recipe").output.splitlines()
    assert [line.split()[:2] for line in filtered] == [["recipe", "count"]]
    assert fewlabel("ls", "nothing-of-that-name").exit_code == 1


def test_a_terminal_shows_each_sentence_of_ls_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [re.split(r" {2,}", line) for line in fewlabel("ls").output.splitlines()]  # a pipe: a line each
    for width in (70, 200):
        terminal = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, soft_wrap=True)
        monkeypatch.setattr("toolkit.cli.browse.out", terminal)
        assert fewlabel("ls").exit_code == 0
        lines = terminal.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width and "…" not in terminal.file.getvalue()
        said = " ".join(" ".join(lines).split())
        assert [name for _, name, *meaning, _ in rows if " ".join([name, *meaning]) not in said] == []


def test_ls_agrees_with_the_registry() -> None:
    from toolkit.objectives import OBJECTIVES

    listed = {line.split()[1] for line in fewlabel("objectives").output.splitlines()}
    assert listed == set(OBJECTIVES)


def test_ls_knows_every_network() -> None:
    from toolkit.encoders.networks import NETWORKS

    lines = [line.split() for line in fewlabel("ls").output.splitlines()]
    assert {line[1] for line in lines if line[0] == "network"} == set(NETWORKS)
    assert all(len(line) > 5 for line in lines if line[0] == "network")  # each says what it is


def test_objectives_as_a_table_has_a_row_each() -> None:
    from toolkit.objectives import OBJECTIVES

    rows = fewlabel("objectives", "--table").output.splitlines()
    assert [row.split("`")[1] for row in rows[2:]] == list(OBJECTIVES)


def test_objectives_explains_one() -> None:
    from toolkit.objectives import OBJECTIVES

    name = next(iter(OBJECTIVES))
    shown = fewlabel("objectives", name).output
    assert (inspect.getdoc(OBJECTIVES.get(name)) or "missing") in shown
    assert "Settings:" in shown
    assert fewlabel("objectives", name + "x").exit_code == 2


@pytest.mark.slow
def test_certificates_are_printed_and_hold() -> None:
    outcome = python(MAIN, "objectives", "byol", "--certificate")
    assert outcome.returncode == 0, outcome.stderr
    row = next(line for line in outcome.stdout.splitlines() if "simsiam.negative_cosine_similarity" in line)
    assert row.count("|") == 9 and "FAILED" not in row
    of_text = python(MAIN, "objectives", "mlm", "--certificate")
    assert of_text.returncode == 0 and "mlm.mlm_loss" in of_text.stdout and "FAILED" not in of_text.stdout


def test_run_says_which_recipe_it_took(here: Path) -> None:
    outcome = python(MAIN, "run", "count", "--config", "count/more", "to=5")
    assert "recipe count: recipes/count.py (working folder)" in outcome.stderr
    assert (here / "runs/more/count").read_text() == "5"


def test_a_dry_run_prints_the_resolved_configuration_and_runs_nothing(here: Path) -> None:
    outcome = fewlabel("run", "count", "--config", "configs/count/more.yaml", "to=5", "--dry-run")
    assert outcome.output == "output: runs/more\nto: 5\nfail: ''\n"
    assert not (here / "runs").exists()


def test_run_without_a_configuration_names_them() -> None:
    outcome = fewlabel("run", "count")
    assert outcome.exit_code == 2
    assert "--config count/more or --config count/three" in outcome.output


def test_a_file_that_is_no_recipe_is_refused(here: Path) -> None:
    (here / "recipes/other.py").write_text("def run(anything): ...\n")
    outcome = fewlabel("run", "other")
    assert outcome.exit_code == 2
    assert "a recipe defines run(cfg: Config)" in outcome.output


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("data", 1, "error: poems.csv: empty; add a line"),
        ("disk", 1, "error: the disk is full while writing runs/count/big; free some space"),
        ("interrupt", 130, "the same command continues"),
    ],
)
def test_what_a_user_can_put_right_is_one_line(how: str, code: int, line: str) -> None:
    outcome = fewlabel("run", "count", "--config", "count/three", f"fail={how}")
    assert outcome.exit_code == code
    assert line in outcome.output
    assert "Traceback" not in outcome.output


def test_a_bug_keeps_its_traceback() -> None:
    assert isinstance(fewlabel("run", "count", "-c", "count/three", "fail=bug").exception, ZeroDivisionError)


def test_debug_shows_the_traceback() -> None:
    outcome = python(MAIN, "--debug", "run", "nobody")
    assert "Traceback" in outcome.stderr
    assert outcome.returncode != 0


def test_validate_reports_every_mistake_of_every_file(here: Path) -> None:
    assert (
        fewlabel("validate", "configs/count/three.yaml", "configs/count/more.yaml", "data_cards/poems.md").exit_code
        == 0
    )
    (here / "configs/count/bad.yaml").write_text("too: 3\nto: -1\n")
    (here / "stray.yaml").write_text("to: 3\n")
    (here / "data_cards/bad.md").write_text(CARD.replace("license: cc0-1.0\n", ""))
    bad = ["configs/count/bad.yaml", "stray.yaml", "data_cards/bad.md", "missing.yaml"]
    outcome = fewlabel("validate", *bad, "configs/count/three.yaml")
    assert outcome.exit_code == 2
    for mistake in (
        "configs/count/bad.yaml: too: unknown key; did you mean 'to'?",
        "allowed: > 0",
        "stray.yaml: which recipe",
        "license: missing",
        "missing.yaml: no such file",
    ):
        assert mistake in outcome.output
    assert "ok  configs/count/three.yaml" in outcome.output
    assert fewlabel("validate", "stray.yaml", "--recipe", "count").exit_code == 0


def test_schema_is_json_with_the_docstrings() -> None:
    document = json.loads(fewlabel("schema", "count").output)
    assert document["properties"]["to"]["description"] == "Where to stop."
    assert document["properties"]["to"]["exclusiveMinimum"] == 0


def test_cp_brings_what_a_configuration_extends_and_overwrites_nothing(here: Path) -> None:
    outcome = fewlabel("cp", "count/more", "mine/own.yaml")
    assert outcome.exit_code == 0
    assert (here / "mine/three.yaml").read_text() == (here / "configs/count/three.yaml").read_text()
    (here / "mine/own.yaml").write_text("to: 9\n")
    assert fewlabel("cp", "count/more", "mine/own.yaml").exit_code == 1
    assert (here / "mine/own.yaml").read_text() == "to: 9\n"
    assert fewlabel("cp", "count/more", "mine/own.yaml", "--force").exit_code == 0
    assert "runs/more" in (here / "mine/own.yaml").read_text()


def test_cp_asks_when_a_name_means_several_things(here: Path) -> None:
    (here / "data_cards/count.md").write_text(CARD)
    outcome = fewlabel("cp", "count")
    assert outcome.exit_code == 1
    assert "recipes/count.py or data_cards/count.md" in outcome.output
    assert fewlabel("cp", "data_cards/count.md", "copy.md").exit_code == 0


def test_data_is_fetched_and_verified() -> None:
    assert fewlabel("data", "fetch", "poems").exit_code == 0
    assert fewlabel("data", "verify", "poems").output == "ok  poems\n"
    outcome = fewlabel("data", "fetch", "peoms")
    assert outcome.exit_code == 1
    assert "did you mean 'poems'?" in outcome.output


def test_verify_fails_where_data_are_missing(here: Path) -> None:
    (here / "data_cards/poems.csv").unlink()
    outcome = fewlabel("data", "verify", "poems")
    assert outcome.exit_code == 1
    assert "poems" in outcome.output


def test_doctor_ends_well_here_and_badly_where_something_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.cli import doctor

    outcome = fewlabel("doctor")
    assert outcome.exit_code == 0, outcome.output
    for subject in ("Python", "threads", "disk, data"):
        assert subject in outcome.output
    monkeypatch.setattr(
        doctor,
        "requires",
        lambda name: ["torch>=99", "numpy", "no-such-package", "nobody; extra == 'external'"],
    )
    outcome = fewlabel("doctor")
    assert outcome.exit_code == 1
    assert "is outside >=99; pip install 'torch>=99'" in outcome.output
    assert "not installed; pip install 'no-such-package'" in outcome.output
    assert 'pip install "fewlabel[external]"' in outcome.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_doctor_sees_a_folder_that_cannot_be_written(here: Path) -> None:
    here.chmod(0o500)
    assert fewlabel("doctor").exit_code == 1
