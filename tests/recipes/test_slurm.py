"""The batch script against a stub of Slurm: USR1 saves, requeues, and the same job goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recipes.made_up import write_working_folder

SCRIPT = Path(__file__).parents[2] / "configs/slurm/run.sbatch"
CONFIG = """
output: runs/heads
num_threads: 1
cards: [heads]
preprocessing: {spacing_mm: [4, 4, 4]}
views: {patch_size: 8}
encoder: {width: 4, patch_size: 8}
training: {num_steps: 60, batch_size: 8, log_every: 1, checkpoint_every: 1000}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """A working folder, a `fewlabel` of this interpreter, and a scontrol that writes down what it is told."""
    write_working_folder(tmp_path)
    (tmp_path / "heads.yaml").write_text(CONFIG, encoding="utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    run = "import sys; from toolkit.cli import main; sys.argv[0] = 'fewlabel'; main()"
    (programs / "fewlabel").write_text(f'#!/bin/bash\nexec {sys.executable} -c "{run}" "$@"\n', encoding="utf-8")
    (programs / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/scontrol.log\n', encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "OMP_NUM_THREADS": "1",
        "FEWLABEL_DATA": str(tmp_path / "cache"),
    }


def submit(folder: Path, cluster: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = ["bash", str(SCRIPT), "scan_pretrain", "--config", "heads.yaml", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def warn_in_training(job: subprocess.Popen[str], folder: Path) -> str:
    metrics = folder / "runs/heads/metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    return job.communicate(timeout=120)[0]


def test_a_warned_job_saves_and_goes_back_into_the_queue(tmp_path: Path, cluster: dict[str, str]) -> None:
    said = warn_in_training(submit(tmp_path, cluster, "training.num_steps=100000"), tmp_path)
    assert "ended by SIGUSR1 after step" in said and "Traceback" not in said
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    steps = (tmp_path / "runs/heads/metrics.jsonl").read_bytes().count(b"\n")
    assert (tmp_path / f"runs/heads/checkpoints/step-{steps:08d}.pt").exists()


def test_a_job_that_fails_is_not_requeued_and_keeps_its_code(tmp_path: Path, cluster: dict[str, str]) -> None:
    job = submit(tmp_path, cluster, "training.num_stepz=1")
    assert "num_stepz" in job.communicate(timeout=120)[0] and job.returncode == 2
    assert not (tmp_path / "scontrol.log").exists()


@pytest.mark.slow
def test_a_requeued_job_ends_as_an_undisturbed_one(tmp_path: Path, cluster: dict[str, str]) -> None:
    assert submit(tmp_path, cluster, "output=runs/whole").wait() == 0
    warn_in_training(submit(tmp_path, cluster), tmp_path)
    job = submit(tmp_path, cluster)
    assert "continues from step" in job.communicate(timeout=300)[0] and job.returncode == 0
    same = [(tmp_path / f"runs/{name}/metrics.jsonl").read_bytes() for name in ("whole", "heads")]
    assert same[0] == same[1]


@pytest.mark.slow
def test_two_processes_are_warned_through_the_launcher(tmp_path: Path, cluster: dict[str, str]) -> None:
    """torchrun itself would die of the signal: it goes to the workers."""
    both = cluster | {"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": ""}
    both["PATH"] = f"{both['PATH'].split(':')[0]}:{Path(sys.executable).parent}:{cluster['PATH']}"
    said = warn_in_training(submit(tmp_path, both, "training.num_steps=100000"), tmp_path)
    assert "ended by SIGUSR1 after step" in said
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    assert list((tmp_path / "runs/heads/checkpoints").glob("step-*.json"))
