"""The text recipe by itself: a stream of files, packed rows, several methods, and a start from a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.conftest import Command
from toolkit import load_encoder

CONFIG = """output: runs/{name}
num_threads: 1
cards: [texts]
texts: [{{path: own.txt, language: en}}]
tokenizer: {{vocab_size: 500, num_generated: 0}}
spectral: {{dim: 8}}
encoder: {{num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 48}}
masking: {{share: 0.3, end_share: 0.15}}
balance: {{stages: [{{start: 0, temperature: 1.5}}, {{start: 0.5, temperature: 3}}]}}
stages:
  mlm: {{objective: {{name: mlm}}, training: {{num_steps: 8, batch_size: 8, log_every: 1, checkpoint_every: 2}}}}
  sop:
    objective: {{name: sop}}
    training: {{num_epochs: 0.2, batch_size: 16, log_every: 1}}
    masking: {{share: 0.2}}
"""


@pytest.fixture(scope="module")
def pretrained(working_folder: Path, fewlabel: Command) -> Path:
    """A run, done."""
    own = "\n".join(f"one more line of words, number {number}, of nobody" for number in range(300))
    (working_folder / "own.txt").write_text(own, encoding="utf-8")
    (working_folder / "text.yaml").write_text(CONFIG.format(name="texts"), encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "text.yaml")
    assert done.exit_code == 0, done.output
    return working_folder / "runs/texts"


def test_a_run_leaves_an_encoder_tokens_and_the_shares_that_were_masked(pretrained: Path) -> None:
    encoder = load_encoder(pretrained / "encoder")
    assert np.isfinite(encoder.embed(["one line", "ena vrstica"])).all()
    (store,) = (path for path in (pretrained / "tokens").iterdir() if path.is_dir())  # beside its lock
    index = json.loads((store / "index.json").read_text())
    assert index["texts"] > 500 and index["languages"] == ["en", "sl"]
    shares = (pretrained / "masked_shares.csv").read_text().splitlines()
    assert shares[0] == "language,masked_share" and len(shares) == 3
    assert (pretrained / "stages/sop/masked_shares.csv").is_file()
    rows = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 8 and rows[-1]["masked_share"] < rows[0]["masked_share"]


def test_texts_are_not_tokenised_again(pretrained: Path, fewlabel: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (pretrained / "tokens").rglob("*") if path.is_file()}
    monkeypatch.setattr("toolkit.text.token_store._Writer.write", None)
    done = fewlabel("run", "text_pretrain", "--config", "text.yaml")
    assert done.exit_code == 0, done.output
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_held_out_texts_of_the_card_were_not_seen(
    pretrained: Path, working_folder: Path, fewlabel: Command
) -> None:
    study = """output: runs/texts-study
num_threads: 1
encoder: runs/texts/encoder
cards: [texts]
max_test_per_class: 10
study: {budgets: [2], num_draws: 2, methods: [majority, ssl-probe]}
"""
    (working_folder / "text-study.yaml").write_text(study, encoding="utf-8")
    done = fewlabel("run", "label_efficiency", "--config", "text-study.yaml")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("vocabulary", ["keep", "extend", "replace"])
def test_a_run_goes_on_from_the_encoder_of_another(
    pretrained: Path, working_folder: Path, fewlabel: Command, vocabulary: str
) -> None:
    config = CONFIG.format(name=f"on-{vocabulary}").replace(
        "encoder: {num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 48}",
        f"encoder: {{max_length: 32}}\nstart_from: {{path: runs/texts/encoder, vocabulary: {vocabulary}}}",
    )
    config = config.replace("vocab_size: 500", "vocab_size: 600")
    (working_folder / "on.yaml").write_text(config, encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "on.yaml")
    assert done.exit_code == 0, done.output
    before, after = (load_encoder(working_folder / f"runs/{name}/encoder") for name in ("texts", f"on-{vocabulary}"))
    assert after.max_length == 32 and after.lm_head is not None
    assert (after.tokenizer.digest == before.tokenizer.digest) == (vocabulary == "keep")
    assert not np.allclose(after.embed(["one line"])[:, :16], before.embed(["one line"])[:, :16])


def test_a_start_that_saw_what_is_now_held_out_is_refused(
    pretrained: Path, working_folder: Path, fewlabel: Command
) -> None:
    config = CONFIG.format(name="leak").replace(
        "encoder: {num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 48}",
        "seed: 1\nstart_from: {path: runs/texts/encoder}",  # another division of the card
    )
    (working_folder / "leak.yaml").write_text(config, encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "leak.yaml")
    assert done.exit_code != 0 and "start_from.path: " in done.output and "allow_held_out" in done.output
    (working_folder / "leak.yaml").write_text(config + "allow_held_out: true\n", encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "leak.yaml")
    assert done.exit_code == 0 and "allowed, but scores on them are not" in done.output, done.output


def test_a_tokenizer_that_is_there_is_taken(pretrained: Path, working_folder: Path, fewlabel: Command) -> None:
    (learnt,) = (pretrained / "tokenizer").iterdir()
    config = CONFIG.format(name="given") + f"tokenizer_from: {learnt}\n"
    (working_folder / "given.yaml").write_text(config, encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "given.yaml")
    assert done.exit_code == 0, done.output
    given = load_encoder(working_folder / "runs/given/encoder").tokenizer
    assert given.digest == load_encoder(pretrained / "encoder").tokenizer.digest
    assert not (working_folder / "runs/given/tokenizer").exists()


def test_sizes_beside_a_checkpoint_are_refused_before_anything_runs(working_folder: Path, fewlabel: Command) -> None:
    config = CONFIG.format(name="refused") + "start_from: {path: runs/texts/encoder}\n"
    (working_folder / "refused.yaml").write_text(config, encoding="utf-8")
    done = fewlabel("run", "text_pretrain", "--config", "refused.yaml", "--dry-run")
    assert done.exit_code != 0 and "encoder.hidden_size: is the checkpoint's" in done.output
