"""Subjects are dealt out: few crops of one side by side, every one in turn, sites by temperature."""

import logging
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from toolkit.balance import sampling_shares
from toolkit.console import log
from toolkit.errors import ConfigError
from toolkit.scans.sampler import SamplerConfig, SubjectSampler


def sampler(subjects: list[str], batch_size: int, groups: list[str] | None = None, **config: object) -> SubjectSampler:
    return SubjectSampler(subjects, groups, batch_size, 7, SamplerConfig(**config))


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    log.propagate, before = True, log.propagate
    with caplog.at_level(logging.INFO, logger="fewlabel"):
        yield caplog
    log.propagate = before


@pytest.mark.parametrize(("num_subjects", "batch_size"), [(50, 16), (16, 16), (17, 16), (31, 16)])
def test_at_most_one_crop_of_a_subject_in_each_step_and_all_subjects_in_each_round(
    num_subjects: int, batch_size: int
) -> None:
    subjects = [f"s{row % num_subjects}" for row in range(2 * num_subjects)]  # two scans each
    drawn = sampler(subjects, batch_size)
    for number in range(5):
        steps = range(number * drawn.batches_a_round, (number + 1) * drawn.batches_a_round)
        batches = [[subjects[scan] for scan in drawn.rows(step)[0]] for step in steps]
        assert all(len(set(batch)) == len(batch) == batch_size for batch in batches)
        counts = Counter(subject for batch in batches for subject in batch)
        assert len(counts) == num_subjects
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(("num_subjects", "batch_size", "most"), [(2, 128, 64), (3, 128, 43), (100, 128, 2)])
def test_with_fewer_subjects_than_places_as_few_as_can_be(
    num_subjects: int, batch_size: int, most: int, log_lines: pytest.LogCaptureFixture
) -> None:
    drawn = sampler([f"s{number}" for number in range(num_subjects)], batch_size)
    assert f"{num_subjects} subjects for {batch_size} places: up to {most} crops of one" in log_lines.text
    for step in range(9):
        counts = Counter(drawn.rows(step)[0].tolist())
        assert len(counts) == num_subjects and max(counts.values()) == most
        assert min(counts.values()) >= most - 1
    assert len(log_lines.records) == 1


def test_a_limit_is_kept_to_or_refused() -> None:
    subjects = [f"s{number}" for number in range(10)]
    with pytest.raises(ConfigError, match=r"sampler\.max_per_subject: 1 .* 10 .*batch_size to 10, .* to 2"):
        sampler(subjects, 16, max_per_subject=1)
    drawn = sampler(subjects, 16, max_per_subject=2)
    assert all(max(Counter(drawn.rows(step)[0].tolist()).values()) <= 2 for step in range(20))


def test_without_sites_there_is_nothing_to_balance() -> None:
    for sites in (None, ["", "", ""]):
        with pytest.raises(ConfigError, match=r"sampler\.balance: nothing says the site"):
            sampler(["a", "b", "c"], 2, sites, balance="site")
    drawn = sampler(["a", "b", "c"], 2, ["north", "", ""], balance="site")  # unknown is a site too
    assert {scan for step in range(4) for scan in drawn.rows(step)[0]} == {0, 1, 2}


def test_without_a_limit_subjects_still_count_the_same() -> None:
    drawn = sampler([f"s{number}" for number in range(40)], 16, max_per_subject="unlimited")
    batches = [drawn.rows(step)[0].tolist() for step in range(30 * drawn.batches_a_round)]
    assert any(len(set(batch)) < 16 for batch in batches)
    counts = Counter(scan for batch in batches for scan in batch)
    assert max(counts.values()) - min(counts.values()) <= 30
    assert len(counts) == 40


def test_every_crop_of_every_scan_comes_in_turn() -> None:
    subjects = ["a", "b", "b", "c", "c", "c"]
    drawn = sampler(subjects, 4)
    visits: dict[int, list[int]] = {scan: [] for scan in range(6)}
    for step in range(60):
        for scan, visit in zip(*drawn.rows(step), strict=True):
            visits[scan].append(int(visit))
    for seen in visits.values():
        assert len(seen) > 20
        assert sorted(seen) == list(range(len(seen)))
    lengths = [len(seen) for seen in visits.values()]
    assert abs(lengths[1] - lengths[2]) <= 2 and max(lengths[3:]) - min(lengths[3:]) <= 2


@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e6])
def test_sites_get_their_share_by_temperature(temperature: float) -> None:
    sites = ["large"] * 90 + ["middle"] * 40 + ["small"] * 10
    subjects = [f"s{number}" for number in range(140)]
    drawn = sampler(subjects, 20, sites, balance="site", temperature=temperature)
    wanted = sampling_shares({"large": 90, "middle": 40, "small": 10}, temperature)
    steps = range(3 * drawn.batches_a_round)
    batches = [drawn.rows(step)[0] for step in steps]
    counts = Counter(sites[scan] for batch in batches for scan in batch)
    for site, share in wanted.items():
        assert counts[site] / (20 * len(batches)) == pytest.approx(share, abs=0.01)
        each = [sum(sites[scan] == site for scan in batch) for batch in batches]
        assert max(each) - min(each) <= 1
    for number in range(3):
        of_round = batches[number * drawn.batches_a_round : (number + 1) * drawn.batches_a_round]
        assert len(set(np.concatenate(of_round).tolist())) == 140
        assert all(len(set(batch.tolist())) == 20 for batch in of_round)


def test_a_site_with_too_few_subjects_for_its_share_gets_what_it_can_fill(
    log_lines: pytest.LogCaptureFixture,
) -> None:
    sites = ["large"] * 100 + ["small"] * 4
    drawn = sampler([f"s{number}" for number in range(104)], 32, sites, balance="site", temperature=1e6)
    assert "large 88%, small 12%" in log_lines.text
    for step in range(20):
        scans = drawn.rows(step)[0].tolist()
        assert len(set(scans)) == 32
        assert sum(sites[scan] == "small" for scan in scans) == 4


def test_a_subject_with_several_modalities_shows_them_in_turn() -> None:
    subjects = ["a", "a", "a", "b", "b", "c"]
    modalities = ["T1", "T1", "FLAIR", "T1", "FLAIR", "T1"]
    drawn = sampler(subjects, 2, modalities, balance="modality", temperature=1.0)
    seen = [scan for step in range(drawn.batches_a_round) for scan in drawn.rows(step)[0]]
    of_a = Counter(modalities[scan] for scan in seen if subjects[scan] == "a")
    assert abs(of_a["T1"] - of_a["FLAIR"]) <= 1
    counts = Counter(subjects[scan] for scan in seen)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_another_seed_deals_otherwise_and_steps_can_be_asked_for_in_any_order() -> None:
    subjects = [f"s{number}" for number in range(30)]
    first = sampler(subjects, 8)
    again = [sampler(subjects, 8).rows(step)[0].tolist() for step in reversed(range(12))][::-1]
    assert [first.rows(step)[0].tolist() for step in range(12)] == again
    other = SubjectSampler(subjects, None, 8, 8, SamplerConfig())
    assert again[0] != other.rows(0)[0].tolist()
    assert again[:4] != again[4:8]
