"""Each benchmark runs to its end with `--quick`, and its last line is the result that DESIGN.md asks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.by_hand import BY_HAND
from toolkit.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
RATIOS = {
    "loader": {"wait"},
    "loop": {"bare", "checkpoint", "trainer"},
    "gradient_caching": {"memory", "memory_of_plain", "time_of_plain"},
    "objectives": {"time", "memory"},
    "gpu": {"bf16_scans", "bf16_text", "caching_time"},
    "tokenize": {"fast"},
    "mlm": {"grouped-32k", "lines-32k", "grouped-250k", "memory"},
    "large_corpus": {"memory"},
    "vocabulary": {"start", "early", "late"},
    "store": {"persistent", "memmap", "limit", "bytes", "memory"},
    "views": {"monai"} | ({"torchio"} if os.environ.get("FEWLABEL_TORCHIO") else set()),
}
NO_PROGRAMS = {"__init__", "report", "made_up", "made_up_texts", "by_hand", "torchio_peer", "peers"}
PROGRAMS = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - NO_PROGRAMS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RATIOS))
def test_a_quick_run_ends_with_its_result(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.keys() >= {"name", "ratios", "hardware", "versions"}
    assert result["name"] == name
    assert result["ratios"].keys() >= RATIOS[name]
    assert all(ratio > 0 for ratio in result["ratios"].values())
    assert result["hardware"]["cpus"] >= 1 and result["hardware"]["threads"] >= 1
    assert result["versions"]["torch"]


def test_every_benchmark_has_its_results_written_down() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    missing = {name for name in PROGRAMS if f"python -m benchmarks.{name}" not in results}
    assert PROGRAMS and not missing


def test_every_scan_method_has_a_peer_by_hand() -> None:
    scans = {name for name in OBJECTIVES if OBJECTIVES.get(name).modality == "scans"}
    assert scans == BY_HAND.keys()
