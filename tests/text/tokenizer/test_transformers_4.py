"""A saved folder opens in transformers 4 too, with the same ids; in an environment of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.encoders.text import TextEncoderConfig
from toolkit.encoders.text.architecture import transformers_config
from toolkit.text.tokenizer import SentencePieceTokenizer
from toolkit.text.tokenizer.strings import ADVERSARIAL, generated_string

ARCHITECTURES = ("", "bert", "xlm-roberta", "modernbert", "electra")
PROGRAM = """
import json, sys, transformers
from transformers import AutoConfig, AutoTokenizer
texts = json.load(open("texts.json", encoding="utf-8"))
found = {"version": transformers.__version__}
for name in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    assert tokenizer.is_fast and AutoTokenizer.from_pretrained(name, use_fast=True).mask_token_id == 4
    found[name] = tokenizer(texts)["input_ids"]
    if not name.startswith("plain"):
        config = AutoConfig.from_pretrained(name)
        assert config.vocab_size == len(tokenizer) and config.pad_token_id == tokenizer.pad_token_id
json.dump(found, open("ids.json", "w"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with transformers 4 and no torch."""
    folder = tmp_path_factory.mktemp("transformers-4")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "transformers==4.57.*"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install transformers 4: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
def test_transformers_4_gives_the_same_ids(either: SentencePieceTokenizer, python: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / (name or "plain") for name in ARCHITECTURES}
    for name, folder in folders.items():
        either.save(folder)
        if name:
            config = transformers_config(TextEncoderConfig(architecture=name), len(either), either.special)
            config.save_pretrained(folder)
    texts = [*ADVERSARIAL, *(generated_string(11, number) for number in range(2000))]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    names = [folder.name for folder in folders.values()]
    subprocess.run([python, "-c", PROGRAM, *names], cwd=tmp_path, check=True)
    found = json.loads((tmp_path / "ids.json").read_text(encoding="utf-8"))
    assert found.pop("version").startswith("4.57.")
    expected = either.fast(texts)["input_ids"]
    assert {name: ids == expected for name, ids in found.items()} == dict.fromkeys(names, True)
