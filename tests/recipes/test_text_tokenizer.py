"""The tokenizer recipe on made-up texts: from cards and from plain files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tests.recipes.conftest import Command
from toolkit.text import load_tokenizer

CONFIG = """output: runs/tokenizer
num_threads: 1
cards: [texts]
texts: [{path: more.txt, language: de}]
tokenizer: {vocab_size: 450, num_generated: 100}
"""


@pytest.fixture(scope="module")
def run_folder(fewlabel: Command, working_folder: Path) -> Path:
    """A run from a card, which holds a test out, and a file."""
    (working_folder / "more.txt").write_text("Vse je v redu.\n" * 3 + "Ein anderer Satz.\n", encoding="utf-8")
    (working_folder / "tokenizer.yaml").write_text(CONFIG, encoding="utf-8")
    done = fewlabel("run", "text_tokenizer", "--config", "tokenizer.yaml")
    assert done.exit_code == 0, done.output
    return working_folder / "runs/tokenizer"


def test_a_run_leaves_a_certified_tokenizer_and_its_audit(run_folder: Path) -> None:
    tokenizer = load_tokenizer(run_folder / "tokenizer")
    assert tokenizer.certificate["generated"] == 100
    assert tokenizer.certificate["training"]["languages"]["de"]["texts"] == 2  # its repeats are left out
    audit = pd.read_csv(run_folder / "audit.csv").set_index("language")
    assert list(audit.index) == ["de", "en", "sl"]
    assert (audit.dropped_bytes == 0).all() and (audit.fertility >= 1).all()
    learnt = tokenizer.certificate["training"]["languages"]["en"]["texts"]
    assert audit.loc["en", "texts"] < learnt  # held out, not learnt from
    assert (run_folder / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_each_model_folder_opens_in_transformers(run_folder: Path) -> None:
    tokenizer = load_tokenizer(run_folder / "tokenizer")
    for name in ("bert", "xlm-roberta", "modernbert", "electra"):
        folder = run_folder / "models" / name
        config = AutoConfig.from_pretrained(folder)
        assert (config.model_type, config.vocab_size) == (name, len(tokenizer))
        opened = AutoTokenizer.from_pretrained(folder)
        batch = opened(["a film"], return_tensors="pt")
        assert batch["input_ids"][0, 1:-1].tolist() == tokenizer.encode(["a film"])[0]
        assert AutoModel.from_config(config)(**batch).last_hidden_state.shape[:2] == batch["input_ids"].shape


def test_a_second_run_keeps_the_tokenizer(run_folder: Path, fewlabel: Command) -> None:
    path = run_folder / "tokenizer/tokenizer_certificate.json"
    before = path.stat().st_mtime_ns
    assert fewlabel("run", "text_tokenizer", "--config", "tokenizer.yaml").exit_code == 0
    assert path.stat().st_mtime_ns == before and json.loads(path.read_text(encoding="utf-8"))["differing"] == 0


def test_no_texts_at_all(run_folder: Path, fewlabel: Command) -> None:
    given = ("--config", "tokenizer.yaml", "output=runs/nothing")
    done = fewlabel("run", "text_tokenizer", *given, "cards=[]", "texts=[]")
    assert done.exit_code and "cards, texts: give one of them at least" in done.output
    done = fewlabel("run", "text_tokenizer", *given, "languages=[en, hr]")
    assert done.exit_code and "no texts in language 'hr'" in done.output
