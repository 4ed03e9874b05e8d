"""Each leg's pretraining, killed with SIGKILL ten times at random, ends with the weights of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.recipes.made_up import write_working_folder

NUM_KILLS = 10
LEGS = {
    "scan_pretrain": """
output: {output}
num_threads: 1
cards: [heads]
preprocessing: {{spacing_mm: [4, 4, 4]}}
views: {{patch_size: 12}}
encoder: {{width: 4, patch_size: 12, stem_stride: 2}}
training:
  {{num_steps: 400, batch_size: 16, checkpoint_every: 7, log_every: 3, ema_decay: 0.9, keep_best: {{mode: max}}}}
""",
    "text_pretrain": """
output: {output}
num_threads: 1
cards: [texts]
tokenizer: {{vocab_size: 500, num_threads: 1}}
encoder: {{num_layers: 1, hidden_size: 32, num_heads: 2}}
spectral: {{dim: 8}}
stages:
  mlm: {{objective: {{name: mlm}}, training: {{num_steps: 400, batch_size: 16, checkpoint_every: 7, log_every: 3}}}}
""",
}


def start(recipe: str, folder: Path, output: str) -> subprocess.Popen[bytes]:
    config = folder / f"{recipe}-{output}.yaml"
    config.write_text(LEGS[recipe].format(output=output), encoding="utf-8")
    code = "import sys; from toolkit.cli import main; sys.argv = ['fewlabel', *sys.argv[1:]]; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FEWLABEL_DATA": str(folder / "cache")}
    command = [sys.executable, "-c", code, "run", recipe, "--config", config.name]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LEGS)
def test_ten_kills_change_no_bit(recipe: str, tmp_path: Path) -> None:
    write_working_folder(tmp_path)
    assert start(recipe, tmp_path, "whole").wait() == 0
    chance = random.Random(0)
    kills = 0
    while True:
        before = last_step(tmp_path / "killed")
        process = start(recipe, tmp_path, "killed")
        wait_for_training(process, tmp_path / "killed", before)
        if kills < NUM_KILLS:
            time.sleep(chance.uniform(0, 0.4))
        if kills == NUM_KILLS:
            assert process.wait() == 0
            break
        if process.poll() is not None:
            assert process.returncode == 0
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == NUM_KILLS  # or the run was over too early: give it more steps
    one, other = (load_file(tmp_path / name / "encoder/model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "killed/metrics.jsonl").read_bytes()


def last_step(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def wait_for_training(process: subprocess.Popen[bytes], folder: Path, before: int) -> None:
    """Until the process has put down its first row, so that kills fall on training and not on imports."""
    while process.poll() is None and last_step(folder) <= before:
        time.sleep(0.01)
