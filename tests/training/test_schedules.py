"""Schedules start, stay and end where they should."""

import math

import pytest

from toolkit.training.schedules import learning_rate_factor


def factors(schedule: str, num_steps: int = 100, **fractions: float) -> list[float]:
    return [
        learning_rate_factor(step, num_steps, schedule=schedule, **({"warmup_fraction": 0.1} | fractions))  # type: ignore[arg-type]
        for step in range(num_steps + 1)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_all_rise_linearly_to_one(schedule: str) -> None:
    found = factors(schedule)
    assert found[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert max(found) == 1.0 and min(found) >= 0


def test_cosine_falls_to_zero() -> None:
    found = factors("cosine")
    assert found[100] == pytest.approx(0) and found[55] == pytest.approx(0.5)
    assert sorted(found[9:], reverse=True) == found[9:]


def test_wsd_is_level_and_then_one_minus_the_root() -> None:
    found = factors("wsd", decay_fraction=0.2)
    assert found[10:81] == [1.0] * 71
    assert found[85] == pytest.approx(1 - math.sqrt(5 / 20)) and found[100] == 0


def test_constant_stays() -> None:
    assert factors("constant")[10:] == [1.0] * 91


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_runs_stay_within_bounds(schedule: str, num_steps: int) -> None:
    assert all(0 <= f <= 1 for f in factors(schedule, num_steps, warmup_fraction=1.0))
    assert all(0 <= f <= 1 for f in factors(schedule, num_steps, warmup_fraction=0.0, decay_fraction=1.0))
