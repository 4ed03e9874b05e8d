import numpy as np
import pytest

from toolkit.balance import (
    ANNEALED,
    BalanceConfig,
    BalanceStage,
    Quotas,
    sampling_shares,
    shares_at,
)
from toolkit.errors import ConfigError

SIZES = {"en": 1_000_000, "sl": 10_000, "xx": 3}


def test_temperature_one_keeps_proportions_and_a_large_one_levels_them() -> None:
    sizes = {"en": 9000, "sl": 1000}
    assert sampling_shares(sizes, 1) == pytest.approx({"en": 0.9, "sl": 0.1})
    assert sampling_shares(sizes, 1e6) == pytest.approx({"en": 0.5, "sl": 0.5}, abs=1e-4)
    assert sampling_shares(sizes, 2)["sl"] == pytest.approx(1 / (1 + 3))


def test_stages_follow_each_other_and_small_languages_wait() -> None:
    config = BalanceConfig(
        stages=(BalanceStage(start=0, temperature=1, min_size=100), BalanceStage(start=0.5, temperature=2))
    )
    early, late = shares_at(SIZES, config, 0.49), shares_at(SIZES, config, 0.5)
    assert early == pytest.approx({"en": 1_000_000 / 1_010_000, "sl": 10_000 / 1_010_000, "xx": 0})
    roots = {name: size**0.5 for name, size in SIZES.items()}
    assert late == pytest.approx({name: root / sum(roots.values()) for name, root in roots.items()})


def test_annealing_as_mmbert_did_levels_languages_step_by_step() -> None:
    config = BalanceConfig(stages=ANNEALED)
    for progress, exponent in ((0, 0.7), (0.76, 0.7), (0.8, 0.5), (1, 0.3)):
        powers = {name: size**exponent for name, size in SIZES.items()}
        assert shares_at(SIZES, config, progress)["sl"] == pytest.approx(powers["sl"] / sum(powers.values()))


def test_a_quota_is_kept_and_the_others_share_the_rest() -> None:
    shares = shares_at(SIZES, BalanceConfig(temperature=1, shares={"sl": 0.4}), 0)
    assert shares["sl"] == 0.4 and sum(shares.values()) == pytest.approx(1)
    assert shares["en"] / shares["xx"] == pytest.approx(1_000_000 / 3)
    with pytest.raises(ConfigError, match=r"balance.shares.slo: no samples of it; known: en, sl, xx"):
        shares_at(SIZES, BalanceConfig(shares={"slo": 0.4}), 0)
    with pytest.raises(ConfigError, match="leaves 50% of the samples to no group"):
        shares_at({"en": 5}, BalanceConfig(shares={"en": 0.5}), 0)


def drawn_in(sizes: dict[str, int], config: BalanceConfig, round_sizes: list[int]) -> list[dict[str, int]]:
    quotas = Quotas(sizes, config)
    return [quotas.next(size, number / len(round_sizes)) for number, size in enumerate(round_sizes)]


def test_rounds_add_up_and_three_sentences_are_not_worn_out() -> None:
    rounds = drawn_in(SIZES, BalanceConfig(temperature=5, max_passes=4), [1000] * 20)
    assert all(sum(quotas.values()) == 1000 and list(quotas) == list(SIZES) for quotas in rounds)
    drawn = {name: sum(quotas[name] for quotas in rounds) for name in SIZES}
    assert drawn["xx"] == 12
    free = drawn_in(SIZES, BalanceConfig(temperature=5), [1000] * 20)
    assert sum(quotas["xx"] for quotas in free) > 500  # without a limit each of the three would be seen 200 times
    # What the limit leaves over goes to the others in proportion to their shares.
    assert drawn["en"] / drawn["sl"] == pytest.approx(100 ** (1 / 5), rel=0.01)


def test_what_rounding_leaves_is_owed_so_three_sentences_beside_a_million_have_their_turn() -> None:
    rounds = drawn_in(SIZES, BalanceConfig(temperature=1), [1000] * 1010)  # a pass over all
    drawn = {name: sum(quotas[name] for quotas in rounds) for name in SIZES}
    assert drawn == pytest.approx(SIZES, abs=4) and drawn["xx"] == 3
    shares = shares_at(SIZES, BalanceConfig(temperature=1), 0)
    for done in (1, 7, 500):
        for name, share in shares.items():
            assert abs(sum(quotas[name] for quotas in rounds[:done]) - share * 1000 * done) < 1


@pytest.mark.parametrize("seed", range(20))
def test_quotas_are_never_negative_and_add_up_whatever_the_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {str(number): int(size) for number, size in enumerate(10 ** rng.uniform(0, 5, rng.integers(1, 40)))}
    sizes_of_rounds = rng.integers(0, 30, 200).tolist()
    for size, quotas in zip(sizes_of_rounds, drawn_in(sizes, BalanceConfig(), sizes_of_rounds), strict=True):
        assert sum(quotas.values()) == size and min(quotas.values()) >= 0


def test_more_than_the_limit_allows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_passes: 2 passes over a 10, b 5 do not last to the end"):
        drawn_in({"a": 10, "b": 5}, BalanceConfig(max_passes=2), [16, 15])
    rounds = drawn_in({"a": 10, "b": 5}, BalanceConfig(max_passes=2), [16, 14])
    assert {name: sum(quotas[name] for quotas in rounds) for name in "ab"} == {"a": 20, "b": 10}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": [{"start": 0.1, "temperature": 2}]}, "the first must start at 0"),
        ({"stages": [{"start": 0, "temperature": 2}, {"start": 0, "temperature": 3}]}, "each later than the one"),
        ({"shares": {"en": 0.7, "sl": 0.4}}, "all together at most 1"),
        ({"shares": {"en": 0}}, "each must be above 0"),
    ],
)
def test_impossible_balances(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BalanceConfig.model_validate(values)
