"""What a training took, from the files of its folder."""

import json
import math
from pathlib import Path

from toolkit.training import training_facts


def write(folder: Path, name: str, *rows: dict[str, float | str]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_time_is_that_of_the_median_step_however_often_the_run_was_started(tmp_path: Path) -> None:
    rows = [{"stage": "s", "seconds": s, "step": n} for n, s in ((10, 5.0), (20, 7.0), (30, 9.0), (40, 90.0))]
    again = [{"stage": "s", "seconds": s, "step": n} for n, s in ((40, 4.0), (50, 6.0), (60, 8.0))]
    ended = {"stage": "scan pretraining", "seconds": 30.0, "peak_memory_gb": 1.5}
    write(tmp_path, "timings.jsonl", *rows, *again, ended, ended | {"peak_memory_gb": 1.25})
    with (tmp_path / "timings.jsonl").open("a") as file:
        file.write('{"stage": "s", "sec')  # cut off
    assert training_facts(tmp_path) == {"seconds": 12.0, "memory_gb": 1.5, "note": ""}


def test_the_step_from_one_start_to_the_next_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path, "timings.jsonl", *({"seconds": s, "step": n} for n, s in ((10, 5.0), (20, 7.0), (30, 1.0))))
    assert training_facts(tmp_path)["seconds"] == 6.0


def test_collapse_is_told_once_and_a_starved_device_is_none(tmp_path: Path) -> None:
    kinds = [("starved", 10), ("dimensional_collapse", 30), ("collapse", 40), ("dimensional_collapse", 90)]
    write(tmp_path, "alarms.jsonl", *({"kind": kind, "step": step, "message": "..."} for kind, step in kinds))
    facts = training_facts(tmp_path)
    assert facts["note"] == "dimensional collapse from step 30; collapse from step 40"
    assert math.isnan(facts["seconds"]) and math.isnan(facts["memory_gb"])


def test_a_failure_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "alarms.jsonl", {"kind": "collapse", "step": 40, "message": "..."})
    assert training_facts(tmp_path, "the loss is not finite")["note"] == "the loss is not finite"
