"""Processes of their own, started from a script that a user wrote."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
from toolkit.errors import DataError
from toolkit.scans.isolated import isolated, num_cores
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
