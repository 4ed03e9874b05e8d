"""Who is in a cohort: balanced, as dialled, and never dependent on how many there are."""

import numpy as np
import pytest

from toolkit.config import load
from toolkit.errors import ConfigError
from toolkit.scans.cohort import CohortConfig, LesionConfig
from toolkit.scans.cohort.design import Subject, subject


def people(num: int, **values: object) -> list[Subject]:
    config = CohortConfig(num_subjects=num, **values)
    return [subject(config, number) for number in range(1, num + 1)]


def test_a_subject_does_not_know_how_many_there_are() -> None:
    assert people(10) == people(1000)[:10]
    assert people(10, seed=1) != people(10)


def test_sites_are_equally_large_at_any_time() -> None:
    for num in (10, 100):
        counts = np.bincount([person.site for person in people(num, num_sites=3)])
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("prevalence", [0.0, 0.25, 0.5, 1.0])
def test_as_many_have_a_lesion_as_asked(prevalence: float) -> None:
    share = np.mean([person.has_lesion for person in people(300, lesion=LesionConfig(prevalence=prevalence))])
    assert share == pytest.approx(prevalence, abs=0.02)


@pytest.mark.parametrize(("num_sites", "shortcut"), [(2, 0.0), (2, 0.5), (2, 1.0), (3, 0.6), (4, 0.8)])
def test_site_and_label_are_correlated_as_dialled(num_sites: int, shortcut: float) -> None:
    cohort = people(600, num_sites=num_sites, shortcut=shortcut)
    rich = [person.site < num_sites // 2 for person in cohort]
    found = np.corrcoef(rich, [person.has_lesion for person in cohort])[0, 1]
    assert found == pytest.approx(shortcut, abs=0.03)
    assert np.mean([person.has_lesion for person in cohort]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["num_sites=3", "shortcut=0.9"], r"the correlation is at most 0\.71"),
        (["num_sites=2", "shortcut=0.9", "lesion.prevalence=0.1"], r"at most 0\.33"),
        (["num_sites=1", "shortcut=0.1"], "needs two sites"),
        (["lesion.volume_ml=[3, 2]"], "must not be below"),
        (["lesion.kinds=[bright]"], "bright_sharp"),
        (["sequences=[T1, T1]"], "once"),
        (["num_subject=3"], "did you mean 'num_subjects'"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, CohortConfig, overrides)


def test_identities_are_made_up_and_say_so() -> None:
    cohort = people(200)
    assert len({person.patient_id for person in cohort}) == len({person.patient_name for person in cohort}) == 200
    for person in cohort:
        assert person.patient_id.startswith("FAKE-")
        assert person.patient_name.startswith("MADEUP^")
        assert len(person.accession(12)) <= 16  # DICOM's short string
        assert person.visit(1) < person.visit(2)
