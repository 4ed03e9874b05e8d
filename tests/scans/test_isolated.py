"""Processes of their own, started from a script that a user wrote."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
from toolkit.errors import DataError
from toolkit.cores import num_cores
from toolkit.scans.isolated import isolated
try:
    print(list(isolated(num_cores, [()], num_workers=1, timeout_s=20)))
except DataError as error:
    print(error)
"""


def test_a_script_without_a_main_guard_is_told_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert 'if __name__ == "__main__":' in done.stdout


NO_PROCESS = """
import multiprocessing, resource
from toolkit.errors import DataError
from toolkit.cores import num_cores
from toolkit.scans.isolated import isolated

if __name__ == "__main__":
    {cause}
    try:
        print(list(isolated(num_cores, [()] * 3, num_workers=2, timeout_s=20)))
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "cause",
    ["multiprocessing.set_executable('/nowhere/python')", "resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))"],
    ids=["no Python", "no files"],
)
def test_processes_that_cannot_start_are_one_line(tmp_path: Path, cause: str) -> None:
    (tmp_path / "script.py").write_text(NO_PROCESS.format(cause=cause))
    script = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the processes that read scans cannot start") and done.stdout.count("\n") == 1


KILLED = """
import os, pathlib, signal, sys, time
from toolkit.scans.isolated import isolated

def work(seconds):
    pathlib.Path(str(os.getpid())).touch()
    time.sleep(seconds)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored in the background
    for _ in isolated(work, [(0.1,), (600,), (600,)], num_workers=2, timeout_s=900):
        os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_it_leaves_no_process_and_says_nothing_of_semaphores(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "script.py").write_text(KILLED)
    script = [sys.executable, "script.py", str(int(how))]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -how
    assert "semaphore" not in done.stderr
    workers = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert workers
    for _ in range(100):
        workers = [worker for worker in workers if _is_alive(worker)]
        if not workers:
            break
        time.sleep(0.1)
    assert workers == []


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
