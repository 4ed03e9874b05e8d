"""An encoder is pretrained and evaluated on made-up texts; what pretraining saw is refused."""

from pathlib import Path

import pandas as pd
import polib
import pytest
from ruamel.yaml import YAML

from tests.recipes.conftest import Command
from tests.recipes.made_up import CONFIG, PATIENT
from tests.recipes.test_bad_input import assert_one_line

MESSAGES_CARD = """---
pretty_name: Made-up messages
license: cc0-1.0
language: [en, sl]
fewlabel:
  source: {kind: path, path: ../messages}
  reader: [{format: gettext, member: '*.po', languages: {sl: sl}, originals: en}]
  split: {unit: group, test_share: 0.3, stratify: [language]}
  personal_data: {status: none, consent: made up for the test}
---
Numbers in two languages that nobody speaks.
"""
PARTS = ("held_out", "translations", "words", "probe")


def write_messages(folder: Path, num: int = 120) -> None:
    """`number 7 has seven`: the translation shares the number."""
    folder.mkdir()
    catalogue = polib.POFile(encoding="utf-8")
    catalogue.metadata = {"Content-Type": "text/plain; charset=utf-8"}
    for number in range(num):
        rest = f"{number * 7919 % 10007:05d} {number * 104729 % 10007:05d}"
        catalogue.append(polib.POEntry(msgid=f"bade kolo {rest}", msgstr=f"čaže zuho {rest}"))
    catalogue.save(str(folder / "sl.po"))


@pytest.fixture(scope="module")
def evaluation(working_folder: Path, fewlabel: Command) -> Path:
    """A folder with `pretrain.yaml`, its encoder, and `evaluate.yaml`."""
    folder = working_folder / "evaluation"
    folder.mkdir()
    write_messages(working_folder / "messages")
    (working_folder / "data_cards/messages.md").write_text(MESSAGES_CARD, encoding="utf-8")
    yaml = YAML()
    pretrain = yaml.load(CONFIG)["text"]["pretrain"] | {
        "output": str(folder / "run"), "num_threads": 1, "cards": ["texts", "messages"]
    }  # fmt: skip
    yaml.dump(pretrain, folder / "pretrain.yaml")
    study = {"budgets": [2, 4], "num_draws": 2, "max_pool_per_class": 20}
    evaluate = {
        "output": str(folder / "evaluation"), "num_threads": 1, "encoders": {"tiny": str(folder / "run/encoder")},
        "cards": ["texts", "messages"], "languages": ["en", "sl"], "max_texts": 20, "task": "sentiment", "study": study,
    }  # fmt: skip
    yaml.dump(evaluate, folder / "evaluate.yaml")
    outcome = fewlabel("run", "text_pretrain", "--config", str(folder / "pretrain.yaml"))
    assert outcome.exit_code == 0, outcome.stderr
    return folder


@pytest.mark.usefixtures("without_workers")
def test_all_parts_are_measured_once_and_shown(evaluation: Path, fewlabel: Command) -> None:
    arguments = ["run", "text_evaluate", "--config", str(evaluation / "evaluate.yaml")]
    outcome = fewlabel(*arguments)
    assert outcome.exit_code == 0, outcome.stderr
    output = evaluation / "evaluation"
    summary = pd.read_csv(output / "evaluation.csv")
    probes = {f"sentiment, {budget} labels a class" for budget in (2, 4)}
    assert set(summary["task"]) == {"held-out text", "translations", "words in context", *probes}
    own = summary[summary["method"] == "encoder"].set_index(["task", "site", "language", "metric"])["value"]
    for site in ("texts", "messages"):
        assert 0.5 < own["held-out text", site, "sl", "bits_per_character"] < 30
    raw = summary[summary["method"] == "raw"].set_index(["task", "language"])["value"]
    assert raw["translations", "sl-en"] > 0.9  # the numbers tell it
    assert {"random", "raw", "bag", "static", "context"} == set(summary["method"]) - {"encoder"}
    static = summary[(summary["method"] == "static") & (summary["language"] == "sl")]
    assert abs(static["value"].item() - 0.5) < 0.05
    results = pd.read_csv(output / "results.csv")
    assert results.columns[:5].tolist() == ["leg", "task", "language", "site", "method"]
    assert len(results[results["method"] == "ssl-probe"]) == 2 * 2 * 2 * 3  # languages, budgets, draws, metrics
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Made-up messages" in page and "words in context" in page
    for path in output.rglob("*.*"):
        if path.suffix in (".csv", ".html", ".md", ".json", ".yaml"):
            content = path.read_text(encoding="utf-8")
            assert PATIENT not in content
            assert path.name == "config.yaml" or str(evaluation) not in content

    kept = {path: path.stat().st_mtime_ns for path in (output / "measured").iterdir()}
    assert len(kept) == 2
    again = fewlabel(*arguments)
    assert again.exit_code == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (output / "measured").iterdir()} == kept
    assert pd.read_csv(output / "evaluation.csv").equals(summary)


def test_an_encoder_that_saw_the_test_is_refused(evaluation: Path, fewlabel: Command, tmp_path: Path) -> None:
    """Another seed holds other texts out."""
    arguments = [
        "run",
        "text_evaluate",
        "--config",
        str(evaluation / "evaluate.yaml"),
        f"output={tmp_path / 'out'}",
        "seed=1",
    ]
    assert_one_line(fewlabel(*arguments), 1, "are also in the pretraining data")
    assert not (tmp_path / "out/evaluation.csv").exists()
    allowed = fewlabel(*arguments, "allow_seen=true", "parts=[translations]")
    assert allowed.exit_code == 0, allowed.stderr
    assert "are not scores on unseen" in allowed.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoders={none: runs/x}", "none is what the tables call baselines without an encoder"),
        ("encoders={x: no/such/folder}", "encoders: no/such/folder is no folder"),
        ("languages=[xx]", "nothing to measure"),
        ("plan=true", "an evaluation trains nothing"),
    ],
)
def test_what_cannot_be_evaluated_says_so(
    evaluation: Path, fewlabel: Command, tmp_path: Path, override: str, message: str
) -> None:
    arguments = ["run", "text_evaluate", "--config", str(evaluation / "evaluate.yaml"), f"output={tmp_path / 'out'}"]
    outcome = fewlabel(*arguments, override)
    assert_one_line(outcome, outcome.exit_code, message)
    assert outcome.exit_code in (1, 2)
