"""Who is in a cohort: for each subject, from the seed and its number alone, identity, site, lesion and dates."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from toolkit.scans.cohort.config import CohortConfig

_GOLDEN = (5**0.5 - 1) / 2
_FIRST = ("Zor", "Quil", "Bram", "Ixo", "Vel", "Thun", "Osk", "Fli", "Gru", "Yev")
_LAST = ("vak", "mund", "zette", "pond", "wick", "lorn", "quist", "blat", "dorf", "nix")
STREAMS = {"subject": 1, "session": 2, "series": 3, "site": 4, "order": 5, "rate": 6}
"""First words of the seeds, so that no two draws share a stream."""


@dataclass(frozen=True)
class Subject:
    """One made-up person.

    Attributes:
        number: From 1.
        site: From 0.
        has_lesion: The label.
        patient_id: DICOM's PatientID.
        patient_name: Its PatientName, `MADEUP^...`.
        birth_date: YYYYMMDD.
        sex: `F` or `M`.
        first_visit: The day of the first session.
    """

    number: int
    site: int
    has_lesion: bool
    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    first_visit: date

    def accession(self, session: int) -> str:
        """Accession number of the study of a session (from 1)."""
        return f"FAKEACC{self.number:05d}{session:02d}"

    def visit(self, session: int) -> str:
        """Day of a session (from 1), YYYYMMDD."""
        return f"{self.first_visit + timedelta(days=182 * (session - 1)):%Y%m%d}"


def stream(kind: str, seed: int, *numbers: int) -> np.random.Generator:
    """The random stream of one thing, such as `stream("subject", seed, 7)`; it does not know of any other."""
    return np.random.default_rng([seed, STREAMS[kind], *numbers])


def subject(config: CohortConfig, number: int) -> Subject:
    """The person with this number, whatever the size of the cohort.

    Sites are dealt out in shuffled rounds, and within a site lesions follow a low-discrepancy sequence. So any number
    of subjects, taken from the first on, has nearly equal sites and the rates asked for, with no draw that depends
    on how many there are.
    """
    turn, place = divmod(number - 1, config.num_sites)
    site = int(stream("order", config.seed, turn).permutation(config.num_sites)[place])
    rich, poor = config.lesion_rates
    start = stream("rate", config.seed, site).random()
    has_lesion = (start + turn * _GOLDEN) % 1 < (rich if site < config.num_sites // 2 else poor)
    random = stream("subject", config.seed, number, 0)
    word = str(random.choice(_FIRST)) + str(random.choice(_LAST))
    return Subject(
        number,
        site,
        bool(has_lesion),
        f"FAKE-{number:05d}-{int(random.integers(16**4)):04X}",
        f"MADEUP^{word}{number:05d}",
        f"{date(1930, 1, 1) + timedelta(days=int(random.integers(25_000))):%Y%m%d}",
        str(random.choice(["F", "M"])),
        date(2020, 1, 1) + timedelta(days=int(random.integers(700))),
    )
