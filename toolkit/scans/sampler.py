"""Which scan each place of a batch comes from: few crops of one subject side by side, every subject in turn.

Negatives that come from one patient teach a network to tell crops apart, not anatomy. So subjects are dealt out like
cards: the copies that a *round* has of each lie next to each other in the pack, and the batches are served in turn.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from toolkit.balance import sampling_shares
from toolkit.config import Section
from toolkit.console import log
from toolkit.errors import ConfigError
from toolkit.splits.groups import codes, members_of

PLACES_A_GROUP = 500
"""That a round has at least, so that each group's share is kept to about a thousandth."""


class SamplerConfig(Section):
    """How the places of a batch are shared between subjects, sites and modalities."""

    max_per_subject: Annotated[int, Field(gt=0)] | Literal["unlimited"] | None = None
    """Crops of one subject in a batch. Empty: one, or where there are fewer subjects than places as few as can be; a
    number is kept to, or the run is refused; `unlimited` draws without regard to who else is in the batch."""
    balance: Literal["site", "modality"] | None = None
    """Share places between the sites, or the modalities, by `temperature`. Empty: each subject counts the same."""
    temperature: float = Field(2.0, ge=1)
    """Groups get places in proportion to their number of subjects to the power of one over this; 1 as they are."""
    crops_per_scan: int = Field(10_000, gt=0)
    """Crops of each scan that make an epoch, for `training.num_epochs`."""


class SubjectSampler:
    """Scans and crop numbers of each step, a pure function of (seed, step).

    A round has as many batches as let every subject appear, and is drawn as a whole. In it each group has its share of
    the places, each subject of a group as many as any other or one more, and each batch as many of each group as any
    other or one more. A subject's scans take turns, and so do the crops of a scan: it begins anew when all were seen.

    Args:
        subjects: Whose each scan is, (N,).
        groups: Site or modality of each scan, (N,); used if `config.balance` is set. A subject with several belongs to
            their combination, and they take turns.
        batch_size: Places a step.
        seed: Everything random follows from it.
        config: Limits and balance.

    Raises:
        ConfigError: There are too few subjects for `config.max_per_subject`, or nothing to balance.
    """

    def __init__(
        self,
        subjects: Sequence[Hashable],
        groups: Sequence[Hashable] | None,
        batch_size: int,
        seed: int,
        config: SamplerConfig,
    ) -> None:
        if config.balance and not any(groups or ()):
            raise ConfigError(f"sampler.balance: nothing says the {config.balance} of any scan; leave it empty")
        self.batch_size, self.seed, self.config = batch_size, seed, config
        groups = groups if config.balance else [""] * len(subjects)
        self._scans = [_turns(rows, groups) for rows in members_of(codes(subjects))]
        combinations = [frozenset(groups[row] for turn in turns for row in turn) for turns in self._scans]
        self._groups = members_of(codes(combinations))
        names = [", ".join(sorted(map(str, combinations[rows[0]]))) for rows in self._groups]
        most = self._most_per_subject()
        shares = self._shares([len(rows) for rows in self._groups], most, names)
        places = batch_size * shares
        self.batches_a_round = max(
            math.ceil(len(rows) / p - 1e-9) for rows, p in zip(self._groups, places, strict=True)
        )
        if len(self._groups) > 1:  # in a short round, whole numbers are no shares
            repeats = math.ceil(PLACES_A_GROUP * len(self._groups) / (batch_size * self.batches_a_round))
            self.batches_a_round *= repeats
        self._quotas = _whole(places * self.batches_a_round)
        self._rounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Scans and how many crops of that scan came before, (B,) each."""
        number, index = divmod(step, self.batches_a_round)
        if number not in self._rounds:
            self._rounds = {number: self._draw_round(number)}
        members, turns = (part[index] for part in self._rounds[number])
        places = [self._scan(int(member), int(turn)) for member, turn in zip(members, turns, strict=True)]
        scans, visits = np.array(places).T
        return scans, visits

    def _scan(self, subject: int, turn: int) -> tuple[int, int]:
        """The scan that a subject's turn shows, and which turn of this scan it is."""
        groups = self._scans[subject]
        turn, group = divmod(turn, len(groups))
        turn, scan = divmod(turn, len(groups[group]))
        return int(groups[group][scan]), turn

    def _most_per_subject(self) -> int:
        num_subjects, size, most = len(self._scans), self.batch_size, self.config.max_per_subject
        if most == "unlimited":
            return size
        needed = math.ceil(size / num_subjects)
        if most is None:
            if needed > 1:
                log.info("%d subjects for %d places: up to %d crops of one in a batch", num_subjects, size, needed)
            return needed
        if most < needed:
            raise ConfigError(
                f"sampler.max_per_subject: {most} crops of each of {num_subjects} subjects do not fill a batch of "
                f"{size}; lower training.batch_size to {most * num_subjects}, or raise max_per_subject to {needed}"
            )
        return most

    def _shares(self, sizes: list[int], most: int, names: list[str]) -> np.ndarray:
        """Each group's share of the places; what a small group cannot fill goes to the others."""
        by_group = sampling_shares(dict(enumerate(sizes)), self.config.temperature)
        wanted = np.array([by_group[group] for group in range(len(sizes))])
        limits = np.array(sizes) * most / self.batch_size
        shares = wanted
        full = np.zeros(len(sizes), bool)
        while (shares > limits * (1 + 1e-9)).any():
            full |= shares >= limits
            left = max(0.0, 1 - limits[full].sum())
            shares = np.where(full, limits, wanted * left / max(wanted[~full].sum(), 1e-12))
        if self.config.balance:
            said = (f"{name or 'none given'} {share:.0%}" for name, share in zip(names, shares, strict=True))
            log.info("places by %s: %s", self.config.balance, ", ".join(said))
        return shares

    def _draw_round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Subjects and their turn numbers, (batches, B) each."""
        rng = np.random.default_rng([self.seed, 2, number])
        subjects, turns = [], []
        for group in rng.permutation(len(self._groups)):
            rows, quota = self._groups[group], self._quotas[group]
            # The group's subjects follow each other in a ring, of which a round takes the next `quota`.
            places = rng.permutation(len(rows))
            first, after = (-((places - end * quota) // len(rows)) for end in (number, number + 1))
            copies = after - first
            starts = np.repeat(np.cumsum(copies) - copies, copies)
            subjects.append(np.repeat(rows[places], copies))
            turns.append(np.repeat(first, copies) + np.arange(quota) - starts)
        pack = np.stack([np.concatenate(subjects), np.concatenate(turns)])
        if self.config.max_per_subject == "unlimited":
            pack = rng.permutation(pack, axis=1)
        batches = pack.reshape(2, self.batch_size, self.batches_a_round).transpose(0, 2, 1)
        batches = batches[:, rng.permutation(self.batches_a_round)]
        order = rng.permuted(np.tile(np.arange(self.batch_size), (self.batches_a_round, 1)), axis=1)
        subjects_KB, turns_KB = np.take_along_axis(batches, order[None], axis=2)
        return subjects_KB, turns_KB


def _turns(rows: np.ndarray, groups: Sequence[Hashable]) -> list[np.ndarray]:
    """A subject's scans by group, in the order of the rows."""
    return [rows[members] for members in members_of(codes([groups[row] for row in rows]))]


def _whole(exact: np.ndarray) -> np.ndarray:
    """Whole numbers with the same sum, each rounded down or up, the largest remainders up."""
    down = np.floor(exact + 1e-9).astype(int)
    down[np.argsort(down - exact, kind="stable")[: round(exact.sum()) - down.sum()]] += 1
    return down
