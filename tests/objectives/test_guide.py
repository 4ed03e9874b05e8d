"""The table of methods is made of their own docs."""

from toolkit.objectives import OBJECTIVES
from toolkit.objectives.guide import COST, USE, first_sentence, guide


def test_every_scan_method_says_when_to_use_it_and_what_it_costs() -> None:
    scans = [name for name in OBJECTIVES if OBJECTIVES.get(name).modality == "scans"]
    missing = [
        (name, part) for name in scans for part in (USE, COST) if len(first_sentence(OBJECTIVES.get(name), part)) < 20
    ]
    assert scans and not missing


def test_every_text_method_says_when_to_use_it() -> None:
    texts = [name for name in OBJECTIVES if OBJECTIVES.get(name).modality == "text"]
    assert len(texts) >= 9 and [name for name in texts if len(first_sentence(OBJECTIVES.get(name), USE)) < 20] == []


def test_a_row_is_whole() -> None:
    lines = guide().splitlines()
    assert len(lines) == 2 + len(list(OBJECTIVES))
    row = next(line for line in lines if line.startswith("| `simclr` |"))
    assert row.startswith("| `simclr` | scans | The default for scans: simple, and good with batches from 64 up. |")
    assert len(guide("text").splitlines()) < len(lines)
