"""Which of several series of a study that show the same is kept: by written rules, in a configurable order."""

import re
from collections import defaultdict
from typing import Any

import numpy as np

from toolkit.scans.audit.candidates import Candidate, is_derived
from toolkit.scans.audit.config import AuditConfig

_SHARP_KERNEL = re.compile(  # Siemens from 50 on, GE and Canon by name, Philips by letter
    r"^(?:[BIDTHQ][a-z]?[5-9]\d|LUNG|BONE|EDGE|DETAIL|FC[358]\d|Y?[CDE](?:$| ))", re.IGNORECASE
)


def choose(candidates: list[Candidate], config: AuditConfig) -> tuple[list[Candidate], list[list[Candidate]]]:
    """Of the series of a kind the best, and those that it beat, best first; volume files are never compared."""
    by_kind: dict[Any, list[Candidate]] = defaultdict(list)
    alone = []
    for candidate in candidates:
        if candidate.kind is None or config.keep_all_series:
            alone.append(candidate)
        else:
            by_kind[candidate.kind].append(candidate)
    ranked = [sorted(group, key=lambda candidate: _rank(candidate, config)) for group in by_kind.values()]
    return alone + [group[0] for group in ranked], [group for group in ranked if len(group) > 1]


def deciding_rule(better: Candidate, worse: Candidate, config: AuditConfig) -> str:
    """Which rule put `better` before `worse`."""
    for rule, a, b in zip(config.prefer, _rank(better, config), _rank(worse, config), strict=False):
        if a != b:
            return rule
    return "lowest series UID"


def _rank(candidate: Candidate, config: AuditConfig) -> tuple[Any, ...]:
    """Lower is better."""
    header, stack = candidate.header, candidate.stack
    assert header is not None and stack is not None
    normal = np.cross(stack.affine[:3, 0], stack.affine[:3, 1])
    step_mm = round(float(np.linalg.norm(stack.affine[:3, 2])), 1)
    ranks = {
        "original": is_derived(header),
        "thin": step_mm,
        "axial": int(np.argmax(np.abs(normal))) != 2,
        "slices": -stack.shape[2],
        "soft": bool(_SHARP_KERNEL.match(header.kernel)),
    }
    return *(ranks[rule] for rule in config.prefer), header.series_uid
