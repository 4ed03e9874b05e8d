import pytest

from toolkit.balance import sampling_shares


def test_temperature_one_keeps_proportions_and_a_large_one_levels_them() -> None:
    sizes = {"en": 9000, "sl": 1000}
    assert sampling_shares(sizes, 1) == pytest.approx({"en": 0.9, "sl": 0.1})
    assert sampling_shares(sizes, 1e6) == pytest.approx({"en": 0.5, "sl": 0.5}, abs=1e-4)
    assert sampling_shares(sizes, 2)["sl"] == pytest.approx(1 / (1 + 3))
